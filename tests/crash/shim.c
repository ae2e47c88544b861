/* Preloaded into a process under test: the calls that write to one directory are counted, and one
 * of them fails (or kills the process), or no flush ever happens. Environment:
 *   RAMOS_SHIM        nosync (flushes do nothing) or fail (obey the page below)
 *   RAMOS_SHIM_ROOT   only calls on files below this path count
 *   RAMOS_SHIM_STATE  a file of 4096 bytes that all processes share: struct page below
 *   RAMOS_SHIM_TRACE  a file that gets a line for each call that counts, while the page says so
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

struct page {
    atomic_long count;  /* of the calls so far */
    atomic_long at;     /* the number of the call that fails, from 1; 0 for none */
    atomic_long code;   /* its errno; 0 kills the process */
    atomic_long last;   /* every later call fails as well (a stick that died) */
    atomic_long trace;  /* write the trace */
    atomic_long stick;  /* only calls on what lies on persist count */
};

static char mode;
static const char *root, *trace;
static size_t root_length;
static struct page *page;

__attribute__((constructor)) static void begin(void)
{
    const char *word = getenv("RAMOS_SHIM"), *state = getenv("RAMOS_SHIM_STATE");
    if (!word)
        return;
    mode = word[0];
    root = getenv("RAMOS_SHIM_ROOT");
    root_length = root ? strlen(root) : 0;
    trace = getenv("RAMOS_SHIM_TRACE");
    int fd = state ? (int)syscall(SYS_openat, AT_FDCWD, state, O_RDWR | O_CLOEXEC) : -1;
    if (fd >= 0) {
        void *found = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        page = found == MAP_FAILED ? NULL : found;
        syscall(SYS_close, fd);
    }
}

static int below_root(const char *path)
{
    return root && strncmp(path, root, root_length) == 0 &&
           (path[root_length] == '/' || path[root_length] == '\0');
}

static int resolve(int fd, const char *path, char *full)
{
    char link[64];
    ssize_t length = 0;
    if (!path || path[0] != '/') {
        if (fd == AT_FDCWD)
            strcpy(link, "/proc/self/cwd");
        else
            snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        length = readlink(link, full, PATH_MAX - 1);
        if (length < 0)
            return 0;
        full[length] = '\0';
    }
    if (path && path[0])
        snprintf(full + length, PATH_MAX - length, "%s%s", length ? "/" : "", path);
    return below_root(full);
}

static void note(long turn, const char *name, const char *path)
{
    char line[PATH_MAX + 64];
    int length = snprintf(line, sizeof line, "%ld %d %s %s\n", turn, (int)getpid(), name, path);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, trace, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0) {
        syscall(SYS_write, fd, line, length);
        syscall(SYS_close, fd);
    }
}

/* Count a call; 1 when it is to fail (errno is set then). */
static int meet(const char *name, int fd, const char *path)
{
    static __thread char full[PATH_MAX * 2];
    int before = errno;
    if (mode != 'f' || !page || (!page->at && !page->trace) || !resolve(fd, path, full)) {
        errno = before;
        return 0;
    }
    if (page->stick && !strstr(full + root_length, "/persist/")) {
        errno = before;
        return 0;
    }
    long turn = atomic_fetch_add(&page->count, 1) + 1, at = page->at;
    if (page->trace)
        note(turn, name, full);
    errno = before;
    if (!at || (page->last ? turn < at : turn != at))
        return 0;
    if (!page->code)
        kill(getpid(), SIGKILL);
    errno = (int)page->code;
    return 1;
}

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) \
        real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)
#define FLUSH(name, fd) \
    REAL(name); \
    if (mode == 'n') \
        return 0; \
    return meet(#name, fd, NULL) ? -1 : real(fd)
#define CALL(name, fd, path, ...) \
    REAL(name); \
    return meet(#name, fd, path) ? -1 : real(__VA_ARGS__)
#define CREATE(name, fd, path, flags, ...) \
    REAL(name); \
    mode_t bits = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        bits = va_arg(rest, mode_t); \
        va_end(rest); \
        if (((flags) & O_CREAT) && meet(#name, fd, path)) \
            return -1; \
    } \
    return real(__VA_ARGS__, flags, bits)

int fsync(int fd) { FLUSH(fsync, fd); }
int fdatasync(int fd) { FLUSH(fdatasync, fd); }
int syncfs(int fd) { FLUSH(syncfs, fd); }
void sync(void)
{
    REAL(sync);
    if (mode != 'n')
        real();
}
ssize_t write(int fd, const void *data, size_t size) { CALL(write, fd, NULL, fd, data, size); }
ssize_t writev(int fd, const struct iovec *v, int n) { CALL(writev, fd, NULL, fd, v, n); }
ssize_t pwrite(int fd, const void *d, size_t n, off_t o) { CALL(pwrite, fd, NULL, fd, d, n, o); }
ssize_t pwrite64(int fd, const void *d, size_t n, off64_t o)
{
    CALL(pwrite64, fd, NULL, fd, d, n, o);
}
ssize_t sendfile(int out, int in, off_t *o, size_t n) { CALL(sendfile, out, NULL, out, in, o, n); }
ssize_t sendfile64(int out, int in, off64_t *o, size_t n)
{
    CALL(sendfile64, out, NULL, out, in, o, n);
}
ssize_t copy_file_range(int in, off64_t *io, int out, off64_t *oo, size_t n, unsigned f)
{
    CALL(copy_file_range, out, NULL, in, io, out, oo, n, f);
}
int ftruncate(int fd, off_t size) { CALL(ftruncate, fd, NULL, fd, size); }
int ftruncate64(int fd, off64_t size) { CALL(ftruncate64, fd, NULL, fd, size); }
int rename(const char *a, const char *b) { CALL(rename, AT_FDCWD, b, a, b); }
int renameat(int x, const char *a, int y, const char *b) { CALL(renameat, y, b, x, a, y, b); }
int renameat2(int x, const char *a, int y, const char *b, unsigned f)
{
    CALL(renameat2, y, b, x, a, y, b, f);
}
int link(const char *a, const char *b) { CALL(link, AT_FDCWD, b, a, b); }
int unlink(const char *a) { CALL(unlink, AT_FDCWD, a, a); }
int unlinkat(int x, const char *a, int f) { CALL(unlinkat, x, a, x, a, f); }
int mkdir(const char *a, mode_t m) { CALL(mkdir, AT_FDCWD, a, a, m); }
int mkdirat(int x, const char *a, mode_t m) { CALL(mkdirat, x, a, x, a, m); }
int open(const char *p, int flags, ...) { CREATE(open, AT_FDCWD, p, flags, p); }
int open64(const char *p, int flags, ...) { CREATE(open64, AT_FDCWD, p, flags, p); }
int openat(int d, const char *p, int flags, ...) { CREATE(openat, d, p, flags, d, p); }
int openat64(int d, const char *p, int flags, ...) { CREATE(openat64, d, p, flags, d, p); }

/*
 * A program with its loader and its libraries in one static file, as a static build of it would be:
 * it can be copied, and works in a root that has none of them. Made by onefile.py.
 *
 * KEPT names a folder where the parts lie on the machine that made it; elsewhere they are put into
 * OWN, which is below /run, at the first call.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PART(n, file)                                                                              \
	extern const char part##n[], end##n[];                                                     \
	__asm__(".section .rodata\n.globl part" #n "\npart" #n ":\n.incbin \"" file                \
		"\"\n.globl end" #n "\nend" #n ":\n.previous\n");
#include "parts.h"

struct part {
	const char *name, *data, *end;
};
static const struct part parts[] = {PARTS};

static int fail(const char *what)
{
	fprintf(stderr, "%s: %s: %s\n", PROGRAM, what, strerror(errno));
	return 127;
}

static int write_part(const char *folder, const struct part *part)
{
	char path[4096];
	const char *data = part->data;

	snprintf(path, sizeof path, "%s/%s", folder, part->name);
	int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
	if (file < 0)
		return -1;
	while (data < part->end) {
		ssize_t count = write(file, data, part->end - data);
		if (count < 0)
			return -1;
		data += count;
	}
	return close(file);
}

/* Under another name first: two of them may start at once. */
static int unpack(void)
{
	char folder[] = OWN ".XXXXXX";

	if (!mkdtemp(folder) || chmod(folder, 0755))
		return -1;
	for (size_t n = 0; n < sizeof parts / sizeof *parts; n++)
		if (write_part(folder, &parts[n]))
			return -1;
	return rename(folder, OWN) && errno != ENOTEMPTY && errno != EEXIST ? -1 : 0;
}

int main(int count, char **words)
{
	int kept = access(KEPT "/" PROGRAM, X_OK) == 0;
	const char *folder = kept ? KEPT : OWN;
	char loader[4096], program[4096], **argv = calloc(count + 7, sizeof *argv);

	if (!kept && access(OWN "/" PROGRAM, X_OK) && unpack())
		return fail(OWN);
	snprintf(loader, sizeof loader, "%s/%s", folder, LOADER);
	snprintf(program, sizeof program, "%s/%s", folder, PROGRAM);
	char *start[] = {loader, "--library-path", (char *)folder, "--argv0", words[0], program};
	memcpy(argv, start, sizeof start);
	memcpy(argv + 6, words + 1, (count - 1) * sizeof *argv);
	execv(loader, argv);
	return fail(loader);
}

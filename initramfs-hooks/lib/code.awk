# A QR code of the text on standard input, drawn with half blocks for a terminal. What follows an
# empty line is written beside it: a screen may have 25 lines, and a code takes 21 of them.
#
# Owns: bytes in, lines out: versions 1 to 5 at level L, the only ones with a single block. Refuses:
# more than 106 bytes (what is longer is cut), and choosing among the masks: any reader takes any.
# It runs under every awk: some BusyBox has no powers, and a byte is known by its character.

BEGIN {
    for (i = 1; i < 256; i++) BYTE[sprintf("%c", i)] = i
    # The error correction of versions 1 to 5, and all codewords.
    split("7 10 15 20 26", CHECKS)
    split("26 44 70 100 134", WORDS)
    # Level L and mask 0 with their own error correction.
    FORMAT = "111011111000100"
    for (i = 0; i < 255; i++) {
        EXP[i] = i ? EXP[i - 1] * 2 : 1
        if (EXP[i] > 255) EXP[i] = differ(EXP[i] - 256, 29)
        LOG[EXP[i]] = i
    }
}

beside { SIDE[beside++] = $0 }
!beside && $0 == "" { beside = 1 }
!beside { text = NR > 1 ? text "\n" $0 : $0 }

END {
    text = substr(text, 1, 106)
    for (version = 1; WORDS[version] - CHECKS[version] - 2 < length(text); version++);
    encode(WORDS[version] - CHECKS[version])
    correct(WORDS[version] - CHECKS[version], CHECKS[version])
    SIZE = 17 + 4 * version
    place_patterns()
    place_data(WORDS[version])
    draw()
}

function differ(a, b,    sum, bit) {
    sum = 0
    for (bit = 1; a || b; bit *= 2) {
        if (a % 2 != b % 2) sum += bit
        a = int(a / 2)
        b = int(b / 2)
    }
    return sum
}

# encode(count): DATA = mode, length and text, each half a codeword late, and what fills it up
function encode(count,    i, byte, rest) {
    byte = length(text)
    rest = 4
    for (i = 0; i <= length(text) + 1; i++) {
        DATA[i] = rest * 16 + int(byte / 16)
        rest = byte % 16
        byte = i < length(text) ? BYTE[substr(text, i + 1, 1)] : 0
    }
    for (; i < count; i++) DATA[i] = (i - length(text)) % 2 ? 17 : 236
}

function multiply(a, b) { return a && b ? EXP[(LOG[a] + LOG[b]) % 255] : 0 }

# correct(count, checks): the Reed-Solomon codewords behind the data
function correct(count, checks,    i, j, factor, divisor, rest) {
    divisor[0] = 1
    for (i = 0; i < checks; i++) {
        divisor[i + 1] = 0
        for (j = i + 1; j > 0; j--) divisor[j] = differ(divisor[j], multiply(divisor[j - 1], EXP[i]))
    }
    for (i = 0; i < checks; i++) rest[i] = 0
    for (i = 0; i < count; i++) {
        factor = differ(DATA[i], rest[0])
        for (j = 0; j < checks; j++) {
            rest[j] = differ(j + 1 < checks ? rest[j + 1] : 0, multiply(divisor[j + 1], factor))
        }
    }
    for (i = 0; i < checks; i++) DATA[count + i] = rest[i]
}

function set(row, column, dark) { if (row >= 0 && column >= 0 && row < SIZE && column < SIZE) DARK[row, column] = dark }

# place_square(row, column, reach): rings around a middle, of which those at 2 and 4 are light
function place_square(row, column, reach,    i, j, far) {
    for (i = -reach; i <= reach; i++) {
        for (j = -reach; j <= reach; j++) {
            far = i * i > j * j ? i * i : j * j
            set(row + i, column + j, reach == 2 ? far != 1 : far != 4 && far != 16)
        }
    }
}

function place_patterns(    i, bit) {
    for (i = 0; i < SIZE; i++) {
        set(6, i, i % 2 == 0)
        set(i, 6, i % 2 == 0)
    }
    place_square(3, 3, 4)
    place_square(3, SIZE - 4, 4)
    place_square(SIZE - 4, 3, 4)
    if (SIZE > 21) place_square(SIZE - 7, SIZE - 7, 2)
    for (i = 0; i < 15; i++) {
        bit = substr(FORMAT, 15 - i, 1) + 0
        if (i < 8) set(i + (i > 5), 8, bit)
        else set(SIZE - 15 + i, 8, bit)
        if (i < 8) set(8, SIZE - 1 - i, bit)
        else set(8, i == 8 ? 7 : 14 - i, bit)
    }
    set(SIZE - 8, 8, 1)
}

# place_data(count): two columns at a time from the right, up and down by turns, mask 0 laid over
function place_data(count,    column, step, row, i, bit, at) {
    at = 0
    for (column = SIZE - 1; column > 0; column -= column == 8 ? 3 : 2) {
        for (step = 0; step < SIZE; step++) {
            row = int((SIZE - 1 - column) / 2) % 2 ? step : SIZE - 1 - step
            for (i = column; i > column - 2; i--) {
                if ((row, i) in DARK) continue
                bit = at < count * 8 ? int(DATA[int(at / 8)] / EXP[7 - at % 8]) % 2 : 0
                DARK[row, i] = (row + i) % 2 ? bit : 1 - bit
                at++
            }
        }
    }
}

# draw(): black on white whatever the colours of the terminal, with two light modules around
function draw(    row, column, upper, lower, line) {
    for (row = -2; row < SIZE + 2; row += 2) {
        line = ""
        for (column = -2; column < SIZE + 2; column++) {
            upper = DARK[row, column] + 0
            lower = DARK[row + 1, column] + 0
            line = line (upper ? (lower ? "█" : "▀") : (lower ? "▄" : " "))
        }
        line = "\033[30;107m" line "\033[0m"
        print line (row / 2 in SIDE ? "  " SIDE[row / 2] : "")
    }
    for (; row / 2 in SIDE; row += 2) print SIDE[row / 2]
}

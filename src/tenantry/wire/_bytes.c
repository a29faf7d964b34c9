/* Byte work that Python is bad at. `bytes_in_python.py` is the reference: for any arguments both give the same values
 * and refuse the same ones (tests/unit/wire/test_bytework.py, `make fuzz-native`). Why these, and what they save:
 * docs/decisions/0009-native-bytes.md.
 *
 * Rules of this file. Only CPython's limited API of 3.11. Arguments are exactly bytes, so nothing can change under a
 * pointer. Nothing is kept between calls but a reader's filter, which never changes. An index is compared with its
 * bound before it is used, by subtracting from the bound and never by adding to the index. No recursion, and no
 * allocation of a computed size but for the bytes that are returned.
 */

#include "_span.h"

#ifdef __SSE2__ /* every x86-64 has it; elsewhere the same in plain C */
#include <emmintrin.h>
#endif

/* Longer than any field that is named; `set-cookie2` and the like are a dozen. As in `bytes_in_python`. */
#define NAME_BYTES_MAX 64
#define NAMES_MAX 64
#define PREFIXES_MAX 16
#define LINES_MAX 256
/* So many digits stay below 2^63. */
#define LENGTH_DIGITS_MAX 18
#define CHUNKED (-1)
/* Of one line of the journal: twice what it has. A number below 2^63 has 19 digits. */
#define VALUES_MAX 32
#define DIGITS_MAX 19
/* Eight digits and a blank, and LF at the end. */
#define CHECKSUM_BYTES 9
#define LINE_AROUND_BYTES 10

/* RFC 9110 5.6.2: the bytes of a token, each in lower case; 0 for any other byte. */
static const byte TOKEN[256] = {
    ['!'] = '!', ['#'] = '#', ['$'] = '$', ['%'] = '%', ['&'] = '&', ['\''] = '\'', ['*'] = '*', ['+'] = '+',
    ['-'] = '-', ['.'] = '.', ['^'] = '^', ['_'] = '_', ['`'] = '`', ['|'] = '|',   ['~'] = '~', ['0'] = '0',
    ['1'] = '1', ['2'] = '2', ['3'] = '3', ['4'] = '4', ['5'] = '5', ['6'] = '6',   ['7'] = '7', ['8'] = '8',
    ['9'] = '9', ['a'] = 'a', ['b'] = 'b', ['c'] = 'c', ['d'] = 'd', ['e'] = 'e',   ['f'] = 'f', ['g'] = 'g',
    ['h'] = 'h', ['i'] = 'i', ['j'] = 'j', ['k'] = 'k', ['l'] = 'l', ['m'] = 'm',   ['n'] = 'n', ['o'] = 'o',
    ['p'] = 'p', ['q'] = 'q', ['r'] = 'r', ['s'] = 's', ['t'] = 't', ['u'] = 'u',   ['v'] = 'v', ['w'] = 'w',
    ['x'] = 'x', ['y'] = 'y', ['z'] = 'z', ['A'] = 'a', ['B'] = 'b', ['C'] = 'c',   ['D'] = 'd', ['E'] = 'e',
    ['F'] = 'f', ['G'] = 'g', ['H'] = 'h', ['I'] = 'i', ['J'] = 'j', ['K'] = 'k',   ['L'] = 'l', ['M'] = 'm',
    ['N'] = 'n', ['O'] = 'o', ['P'] = 'p', ['Q'] = 'q', ['R'] = 'r', ['S'] = 's',   ['T'] = 't', ['U'] = 'u',
    ['V'] = 'v', ['W'] = 'w', ['X'] = 'x', ['Y'] = 'y', ['Z'] = 'z',
};

/* Arguments */

/* Whether `given` is an int from `least` to `most`; else an exception is set. */
static int size_of(PyObject *given, size_t least, size_t most, size_t *size)
{
    Py_ssize_t value = PyLong_AsSsize_t(given);
    if (value == -1 && PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_OverflowError)) {
            return 0;
        }
        PyErr_Clear();
    }
    if (value < 0 || (size_t)value < least || (size_t)value > most) {
        PyErr_SetString(PyExc_ValueError, "a number is out of bounds");
        return 0;
    }
    *size = (size_t)value;
    return 1;
}

static int are_so_many(Py_ssize_t given, Py_ssize_t expected)
{
    if (given != expected) {
        PyErr_Format(PyExc_TypeError, "%zd arguments are expected, not %zd", expected, given);
        return 0;
    }
    return 1;
}

/* Bytes */

static uint64_t word_at(const byte *at)
{
    uint64_t word;
    memcpy(&word, at, WORD_BYTES);
    return word;
}

static int is_digit(byte one)
{
    return one >= '0' && one <= '9';
}

/* RFC 9110 5.5: VCHAR, obs-text, SP, HTAB. */
static int is_text(byte one)
{
    return (one >= 0x20 && one != 0x7F) || one == '\t';
}

static size_t text_end(Span raw, size_t at)
{
    for (;;) {
        while (raw.size - at >= WORD_BYTES) {
            uint64_t word = word_at(raw.at + at), other = word ^ IN_EACH(0x7F);
            uint64_t is_control = (word - IN_EACH(0x20)) & ~word, is_delete = (other - IN_EACH(1)) & ~other;
            if (((is_control | is_delete) & IN_EACH(0x80)) != 0) {
                break;
            }
            at += WORD_BYTES;
        }
        /* Within these bytes is the end, or a tab. */
        for (size_t seen = 0; seen < WORD_BYTES; seen++) {
            if (at == raw.size || !is_text(raw.at[at])) {
                return at;
            }
            at++;
        }
    }
}

static int is_ascii(Span text)
{
    uint64_t seen = 0;
    size_t at = 0;
    for (; text.size - at >= WORD_BYTES; at += WORD_BYTES) {
        seen |= word_at(text.at + at);
    }
    for (; at < text.size; at++) {
        seen |= text.at[at];
    }
    return (seen & IN_EACH(0x80)) == 0;
}

static int is_word(Span text, const char *lower, size_t size)
{
    if (text.size != size) {
        return 0;
    }
    for (size_t at = 0; at < size; at++) {
        byte one = text.at[at];
        if ((one >= 'A' && one <= 'Z' ? one + ('a' - 'A') : one) != (byte)lower[at]) {
            return 0;
        }
    }
    return 1;
}

/* The number of 1 to 18 digits that is all of `text`; -1 for anything else. */
static int64_t number_of(Span text)
{
    int64_t number = 0;
    if (text.size == 0 || text.size > LENGTH_DIGITS_MAX) {
        return -1;
    }
    for (size_t at = 0; at < text.size; at++) {
        if (!is_digit(text.at[at])) {
            return -1;
        }
        number = number * 10 + (text.at[at] - '0');
    }
    return number;
}

static Span stripped(Span text)
{
    while (text.size > 0 && (text.at[0] == ' ' || text.at[0] == '\t')) {
        text.at++;
        text.size--;
    }
    while (text.size > 0 && (text.at[text.size - 1] == ' ' || text.at[text.size - 1] == '\t')) {
        text.size--;
    }
    return text;
}

/* The head of an answer */

typedef struct {
    size_t size;
    byte text[NAME_BYTES_MAX];
} Name;

/* What a reader was made with; `dropped` by length: those of a length n are from first[n] to before first[n + 1]. */
typedef struct {
    size_t lines_max, bytes_max, prefixes;
    size_t first[NAME_BYTES_MAX + 2];
    Name dropped[NAMES_MAX];
    Name prefix[PREFIXES_MAX];
} Filter;

typedef struct {
    long status;
    int64_t length;
    Span request_id, content_type;
    int has_limits, has_length, has_transfer, has_connection;
    size_t runs;
    struct {
        size_t start, stop;
    } run[LINES_MAX]; /* lines that are kept, those that follow one another as one; each with its end but the last */
} Head;

static const char FILTER[] = "tenantry.wire._bytes.filter";

#define IS_NAME(name, literal) \
    ((name)->size == sizeof(literal) - 1 && memcmp((name)->text, literal, sizeof(literal) - 1) == 0)

/* Past the status line's last byte; 0 where it is none of a final answer that has a body. */
static size_t read_status(Span raw, Head *head)
{
    static const char VERSION[] = "HTTP/1.1 ";
    const size_t at = sizeof(VERSION) - 1, end = at + 3;
    if (raw.size < end || memcmp(raw.at, VERSION, at) != 0) {
        return 0;
    }
    const byte *told = raw.at + at;
    if (told[0] < '2' || told[0] > '5' || !is_digit(told[1]) || !is_digit(told[2])) {
        return 0;
    }
    head->status = (told[0] - '0') * 100 + (told[1] - '0') * 10 + (told[2] - '0');
    if (head->status == 204 || head->status == 304) {
        return 0;
    }
    if (end == raw.size || raw.at[end] == '\r') {
        return end;
    }
    return raw.at[end] == ' ' ? text_end(raw, end) : 0;
}

/* The place of the colon behind a name, which is left in lower case, of a longer one its beginning; 0: there is none. */
static size_t read_name(Span raw, size_t at, Name *name)
{
    size_t left = raw.size - at, most = left < NAME_BYTES_MAX ? left : NAME_BYTES_MAX, size = 0;
    const byte *told = raw.at + at;
    byte lower;
    while (size < most && (lower = TOKEN[told[size]]) != 0) {
        name->text[size++] = lower;
    }
    if (size == NAME_BYTES_MAX) {
        while (size < left && TOKEN[told[size]] != 0) {
            size++;
        }
    }
    name->size = size;
    return size > 0 && size < left && told[size] == ':' ? at + size : 0;
}

static int is_kept(const Filter *filter, const Name *name)
{
    if (name->size <= NAME_BYTES_MAX) {
        for (size_t at = filter->first[name->size]; at < filter->first[name->size + 1]; at++) {
            const byte *text = filter->dropped[at].text;
            if (text[0] == name->text[0] && memcmp(text, name->text, name->size) == 0) {
                return 0;
            }
        }
    }
    for (size_t at = 0; at < filter->prefixes; at++) {
        const Name *prefix = &filter->prefix[at];
        if (prefix->text[0] == name->text[0] && prefix->size <= name->size &&
            memcmp(prefix->text, name->text, prefix->size) == 0) {
            return 0;
        }
    }
    return 1;
}

/* Take what the field tells; 0 where it makes the head one that is not plain. */
static int take_field(Head *head, const Name *name, Span value)
{
    if (IS_NAME(name, "content-length")) {
        head->length = number_of(stripped(value));
        return !head->has_length++ && head->length >= 0;
    }
    if (IS_NAME(name, "transfer-encoding")) {
        head->length = CHUNKED;
        return !head->has_transfer++ && is_word(stripped(value), "chunked", 7);
    }
    if (IS_NAME(name, "connection")) {
        return !head->has_connection++ && is_word(stripped(value), "keep-alive", 10);
    }
    if (IS_NAME(name, "content-type")) {
        head->content_type = stripped(value);
    } else if (IS_NAME(name, "request-id")) {
        head->request_id = stripped(value);
    } else if (IS_NAME(name, "anthropic-ratelimit-requests-limit")) {
        head->has_limits = 1;
    }
    return 1;
}

static void keep_line(Head *head, size_t start, size_t stop)
{
    if (head->runs > 0 && head->run[head->runs - 1].stop == start) {
        head->run[head->runs - 1].stop = stop;
    } else if (head->runs < LINES_MAX) { /* always: there are no more lines */
        head->run[head->runs].start = start;
        head->run[head->runs].stop = stop;
        head->runs++;
    }
}

/* Whether `raw` is plain; what it tells is then in `head`. */
static int read_head(const Filter *filter, Span raw, Head *head)
{
    size_t lines = 1, at;
    memset(head, 0, offsetof(Head, run));
    if (raw.size > filter->bytes_max || (at = read_status(raw, head)) == 0) {
        return 0;
    }
    while (at < raw.size) { /* where a line has ended */
        if (raw.size - at < 2 || raw.at[at] != '\r' || raw.at[at + 1] != '\n' || ++lines > filter->lines_max) {
            return 0;
        }
        size_t start = at + 2;
        Name name;
        size_t colon = read_name(raw, start, &name);
        if (colon == 0) {
            return 0;
        }
        at = text_end(raw, colon + 1);
        Span value = {raw.at + colon + 1, at - (colon + 1)};
        if (!take_field(head, &name, value)) {
            return 0;
        }
        if (is_kept(filter, &name)) {
            keep_line(head, start, raw.size - at < 2 ? at : at + 2);
        }
    }
    return head->has_length != head->has_transfer;
}

/* The lines that are kept, each with its end. */
static PyObject *kept_lines(Span raw, const Head *head)
{
    size_t size = 0;
    for (size_t at = 0; at < head->runs; at++) {
        size += head->run[at].stop - head->run[at].start;
    }
    /* The last line of a head that comes without its blank line has no end. */
    size_t missing = head->runs > 0 && head->run[head->runs - 1].stop == raw.size ? 2 : 0;
    PyObject *kept = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(size + missing));
    char *out = kept == NULL ? NULL : PyBytes_AsString(kept);
    if (out == NULL) {
        Py_XDECREF(kept);
        return NULL;
    }
    for (size_t at = 0; at < head->runs; at++) {
        size_t run = head->run[at].stop - head->run[at].start;
        memcpy(out, raw.at + head->run[at].start, run);
        out += run;
    }
    memcpy(out, "\r\n", missing);
    return kept;
}

static PyObject *bytes_from(Span text)
{
    return PyBytes_FromStringAndSize((const char *)text.at, (Py_ssize_t)text.size);
}

static PyObject *read_with(PyObject *self, PyObject *given)
{
    Span raw;
    Head head;
    const Filter *filter = PyCapsule_GetPointer(self, FILTER);
    if (filter == NULL || !bytes_of(given, &raw)) {
        return NULL;
    }
    if (!read_head(filter, raw, &head)) {
        Py_RETURN_NONE;
    }
    PyObject *told[] = {
        PyLong_FromLong(head.status),  PyLong_FromLongLong(head.length), kept_lines(raw, &head),
        bytes_from(head.request_id),   bytes_from(head.content_type),    PyBool_FromLong(head.has_limits),
    };
    return tuple_of(told, 6);
}

/* Fill `names` from an iterable of names in lower case; -1 with an exception where that cannot be. */
static Py_ssize_t take_names(PyObject *given, Name *names, Py_ssize_t most)
{
    PyObject *iterator = PyObject_GetIter(given), *item;
    Py_ssize_t size = 0;
    if (iterator == NULL) {
        return -1;
    }
    while ((item = PyIter_Next(iterator)) != NULL) {
        Span name;
        int is_good = bytes_of(item, &name);
        if (is_good) {
            is_good = size < most && name.size > 0 && name.size <= NAME_BYTES_MAX;
            for (size_t at = 0; is_good && at < name.size; at++) {
                is_good = name.at[at] != 0 && TOKEN[name.at[at]] == name.at[at];
            }
            if (is_good) {
                memcpy(names[size].text, name.at, name.size);
                names[size++].size = name.size;
            } else {
                PyErr_SetString(PyExc_ValueError, "no name of a field in lower case, or one too many or too long");
            }
        }
        Py_DECREF(item);
        if (!is_good) {
            break;
        }
    }
    Py_DECREF(iterator);
    return PyErr_Occurred() ? -1 : size;
}

static void free_filter(PyObject *capsule)
{
    PyMem_Free(PyCapsule_GetPointer(capsule, FILTER));
}

static int fill_filter(Filter *filter, PyObject *const *args)
{
    Name names[NAMES_MAX];
    Py_ssize_t dropped = take_names(args[0], names, NAMES_MAX);
    Py_ssize_t prefixes = dropped < 0 ? -1 : take_names(args[1], filter->prefix, PREFIXES_MAX);
    if (prefixes < 0 || !size_of(args[2], 1, LINES_MAX, &filter->lines_max) ||
        !size_of(args[3], 0, PY_SSIZE_T_MAX - 2, &filter->bytes_max)) {
        return 0;
    }
    filter->prefixes = (size_t)prefixes;
    size_t placed = 0;
    for (size_t size = 0; size <= NAME_BYTES_MAX; size++) {
        filter->first[size] = placed;
        for (Py_ssize_t at = 0; at < dropped; at++) {
            if (names[at].size == size) {
                filter->dropped[placed++] = names[at]; /* as often as there are names */
            }
        }
    }
    filter->first[NAME_BYTES_MAX + 1] = placed;
    return 1;
}

static PyMethodDef READ = {"read", read_with, METH_O, NULL};

static PyObject *head_reader(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t size)
{
    if (!are_so_many(size, 4)) {
        return NULL;
    }
    Filter *filter = PyMem_Calloc(1, sizeof(Filter));
    if (filter == NULL) {
        return PyErr_NoMemory();
    }
    PyObject *capsule = fill_filter(filter, args) ? PyCapsule_New(filter, FILTER, free_filter) : NULL;
    if (capsule == NULL) {
        PyMem_Free(filter);
        return NULL;
    }
    PyObject *read = PyCFunction_NewEx(&READ, capsule, NULL);
    Py_DECREF(capsule); /* the function holds it */
    return read;
}

/* Events of a stream */

static int has_block_start(const byte *at, const byte *end)
{
    static const char WORD[] = "k_start";
    const size_t size = sizeof(WORD) - 1;
    while ((size_t)(end - at) >= size) {
        const byte *hit = memchr(at + 1, WORD[1], (size_t)(end - at) - 1); /* rarer than its first letter */
        if (hit == NULL) {
            return 0;
        }
        if ((size_t)(end - hit) >= size - 1 && memcmp(hit - 1, WORD, size) == 0) {
            return 1;
        }
        at = hit;
    }
    return 0;
}

/* Characters as `decode("utf-8", "replace")` has them; -1 with an exception when there is no memory. */
static Py_ssize_t chars_of(Span text)
{
    if (is_ascii(text)) {
        return (Py_ssize_t)text.size;
    }
    PyObject *decoded = PyUnicode_DecodeUTF8((const char *)text.at, (Py_ssize_t)text.size, "replace");
    if (decoded == NULL) {
        return -1;
    }
    Py_ssize_t size = PyUnicode_GetLength(decoded);
    Py_DECREF(decoded);
    return size;
}

/* The text of the event that is at the beginning of `events`, of which it is cut off; 0 where it is not such an event. */
static int next_text(Span *events, Span delta, Span *text)
{
    static const char CLOSE[] = "\"}}";
    const size_t close = sizeof(CLOSE) - 1;
    if (delta.size == 0 || events->size < delta.size || memcmp(events->at, delta.at, delta.size) != 0) {
        return 0;
    }
    const byte *start = events->at + delta.size, *stop = events->at + events->size;
    const byte *line_end = memchr(start, '\n', (size_t)(stop - start));
    if (line_end == NULL || stop - line_end < 2 || line_end[1] != '\n' || (size_t)(line_end - start) < close ||
        memcmp(line_end - close, CLOSE, close) != 0) {
        return 0;
    }
    text->at = start;
    text->size = (size_t)(line_end - start) - close;
    events->at = line_end + 2;
    events->size = (size_t)(stop - events->at);
    return memchr(text->at, '\r', text->size) == NULL && !has_block_start(text->at, text->at + text->size);
}

/* The characters of all texts of `events`; -1 where they are not alike. */
static PyObject *chars_within(Span events, Span delta)
{
    Span text;
    Py_ssize_t chars = 0;
    do {
        Py_ssize_t more = next_text(&events, delta, &text) ? chars_of(text) : -1;
        if (more < 0) {
            return PyErr_Occurred() ? NULL : PyLong_FromLong(-1);
        }
        chars += more; /* no more than there are bytes */
    } while (events.size > 0);
    return PyLong_FromSsize_t(chars);
}

static PyObject *count_deltas(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t size)
{
    Span data, delta;
    size_t start, stop;
    if (!are_so_many(size, 4) || !bytes_of(args[0], &data) || !bytes_of(args[3], &delta) ||
        !size_of(args[2], 0, data.size, &stop) || !size_of(args[1], 0, stop, &start)) {
        return NULL;
    }
    Span events = {data.at + start, stop - start};
    return chars_within(events, delta);
}

/* Chunks, and heads that are known */

static int hex_value(byte one)
{
    if (is_digit(one)) {
        return one - '0';
    }
    one |= 'a' ^ 'A';
    return one >= 'a' && one <= 'f' ? one - 'a' + 10 : -1;
}

/* Where the data of the chunk begins that `data` is; 0 where it is not exactly one. */
static size_t chunk_start(Span data)
{
    uint64_t size = 0;
    size_t at = 0;
    for (; at < data.size && at < 8; at++) { /* so many digits as stay below 2^32 */
        int value = hex_value(data.at[at]);
        if (value < 0) {
            break;
        }
        size = size * 16 + (uint64_t)value;
    }
    int is_plain = at > 0 && data.at[0] != '0' && data.size - at >= 4 && memcmp(data.at + at, "\r\n", 2) == 0 &&
                   size == (uint64_t)(data.size - at - 4) && memcmp(data.at + data.size - 2, "\r\n", 2) == 0;
    return is_plain ? at + 2 : 0;
}

static PyObject *plain_chunk(PyObject *Py_UNUSED(module), PyObject *given)
{
    Span data;
    return bytes_of(given, &data) ? PyLong_FromSize_t(chunk_start(data)) : NULL;
}

/* `self` is the delta. */
static PyObject *count_chunk(PyObject *self, PyObject *given)
{
    Span data, delta;
    if (!bytes_of(given, &data) || !bytes_of(self, &delta)) {
        return NULL;
    }
    size_t start = chunk_start(data);
    if (start == 0) {
        return PyLong_FromLong(-1);
    }
    Span events = {data.at + start, data.size - start - 2};
    return chars_within(events, delta);
}

static PyMethodDef COUNT = {"count", count_chunk, METH_O, NULL};

static PyObject *chunk_counter(PyObject *Py_UNUSED(module), PyObject *given)
{
    Span delta;
    return bytes_of(given, &delta) ? PyCFunction_NewEx(&COUNT, given, NULL) : NULL; /* which holds the delta */
}

/* In a time that tells nothing of what is in `one` and `other`. */
static int are_equal(const byte *one, const byte *other, size_t size)
{
    volatile uint64_t differs = 0;
    size_t at = 0;
    for (; size - at >= WORD_BYTES; at += WORD_BYTES) {
        differs |= word_at(one + at) ^ word_at(other + at);
    }
    for (; at < size; at++) {
        differs |= (uint64_t)(one[at] ^ other[at]);
    }
    return differs == 0;
}

static PyObject *known_head(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t size)
{
    Span data, before, after;
    if (!are_so_many(size, 3) || !bytes_of(args[0], &data) || !bytes_of(args[1], &before) ||
        !bytes_of(args[2], &after)) {
        return NULL;
    }
    if (data.size < before.size || !are_equal(data.at, before.at, before.size)) {
        Py_RETURN_NONE;
    }
    size_t at = before.size;
    int64_t length = -1;
    if (after.size > 0) {
        Span digits = {data.at + at, 0};
        while (digits.size < LENGTH_DIGITS_MAX && at < data.size && is_digit(data.at[at])) {
            digits.size++;
            at++;
        }
        length = number_of(digits);
        if (length < 0 || data.size - at < after.size || !are_equal(data.at + at, after.at, after.size)) {
            Py_RETURN_NONE;
        }
        at += after.size;
    }
    PyObject *told[] = {PyLong_FromLongLong(length), PyLong_FromSize_t(at)};
    return tuple_of(told, 2);
}

/* Lines of the journal */

/* The CRC-32 of zlib (RFC 1952 8.1), of eight bytes at a time: CRC[n] moves a byte past n others. Filled once, when the
 * module is loaded. */
static uint32_t CRC[8][256];

static void fill_crc(void)
{
    for (uint32_t one = 0; one < 256; one++) {
        uint32_t crc = one;
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320 : 0);
        }
        CRC[0][one] = crc;
    }
    for (size_t table = 1; table < 8; table++) {
        for (size_t one = 0; one < 256; one++) {
            uint32_t crc = CRC[table - 1][one];
            CRC[table][one] = crc >> 8 ^ CRC[0][crc & 0xFF];
        }
    }
}

static uint32_t crc_of(Span text)
{
    uint32_t crc = UINT32_MAX;
    size_t at = 0;
    for (; text.size - at >= 8; at += 8) {
        const byte *told = text.at + at;
        uint32_t low = crc ^ ((uint32_t)told[0] | (uint32_t)told[1] << 8 | (uint32_t)told[2] << 16 |
                              (uint32_t)told[3] << 24); /* one load, where bytes stand in that order */
        crc = CRC[7][low & 0xFF] ^ CRC[6][low >> 8 & 0xFF] ^ CRC[5][low >> 16 & 0xFF] ^ CRC[4][low >> 24] ^
              CRC[3][told[4]] ^ CRC[2][told[5]] ^ CRC[1][told[6]] ^ CRC[0][told[7]];
    }
    for (; at < text.size; at++) {
        crc = crc >> 8 ^ CRC[0][(crc ^ text.at[at]) & 0xFF];
    }
    return ~crc;
}

/* What stands in a line, in its order: the template's own text, a value, its text, and so on. */
typedef struct {
    size_t pieces, size;
    Span piece[2 * VALUES_MAX + 1];
    byte digits[VALUES_MAX][DIGITS_MAX];
} Line;

/* The digits of an int from 0 to below 2^63, within `digits`; else an exception is set. */
static int digits_of(PyObject *given, byte *digits, Span *text)
{
    if (!PyLong_CheckExact(given)) {
        PyErr_SetString(PyExc_TypeError, "a whole number is expected");
        return 0;
    }
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(given, &overflow);
    if (overflow != 0 || value < 0) {
        PyErr_SetString(PyExc_ValueError, "a number is out of bounds");
        return 0;
    }
    size_t at = DIGITS_MAX;
    do {
        digits[--at] = (byte)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    text->at = digits + at;
    text->size = DIGITS_MAX - at;
    return 1;
}

static int add_piece(Line *line, Span text)
{
    if (text.size > (size_t)PY_SSIZE_T_MAX - LINE_AROUND_BYTES - line->size) {
        PyErr_NoMemory();
        return 0;
    }
    line->piece[line->pieces++] = text; /* as often as the template has values, and once more */
    line->size += text.size;
    return 1;
}

static int read_template(Span template, PyObject *const *values, Py_ssize_t size, Line *line)
{
    Py_ssize_t used = 0;
    line->pieces = line->size = 0;
    for (;;) {
        const byte *sign = template.size > 0 ? memchr(template.at, '%', template.size) : NULL;
        Span text = {template.at, sign == NULL ? template.size : (size_t)(sign - template.at)};
        if (sign == NULL) {
            if (used != size) {
                PyErr_SetString(PyExc_TypeError, "there are more values than places for them");
                return 0;
            }
            return add_piece(line, text);
        }
        if (used == size) {
            PyErr_SetString(PyExc_TypeError, "there are fewer values than places for them");
            return 0;
        }
        byte kind = template.size - text.size > 1 ? sign[1] : 0;
        Span value;
        int is_good = kind == 'd' ? digits_of(values[used], line->digits[used], &value) : bytes_of(values[used], &value);
        if (!is_good || !add_piece(line, text) || !add_piece(line, value)) {
            return 0;
        }
        if (kind != 'd' && kind != 'b') {
            PyErr_SetString(PyExc_ValueError, "places are %d or %b");
            return 0;
        }
        used++;
        template.at = sign + 2;
        template.size -= text.size + 2;
    }
}

static PyObject *fill_line(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t size)
{
    static const char HEX[] = "0123456789abcdef";
    Span template;
    Line line;
    if (size < 1 || size > VALUES_MAX + 1) {
        PyErr_SetString(PyExc_TypeError, "a template is expected, and a few values");
        return NULL;
    }
    if (!bytes_of(args[0], &template) || !read_template(template, args + 1, size - 1, &line)) {
        return NULL;
    }
    PyObject *filled = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(line.size + LINE_AROUND_BYTES));
    char *out = filled == NULL ? NULL : PyBytes_AsString(filled);
    if (out == NULL) {
        Py_XDECREF(filled);
        return NULL;
    }
    byte *document = (byte *)out + CHECKSUM_BYTES, *end = document;
    for (size_t at = 0; at < line.pieces; at++) {
        memcpy(end, line.piece[at].at, line.piece[at].size);
        end += line.piece[at].size;
    }
    Span written = {document, line.size};
    uint32_t crc = crc_of(written);
    for (int at = 0; at < 8; at++) {
        out[at] = HEX[crc >> (28 - 4 * at) & 0xF];
    }
    out[8] = ' ';
    *end = '\n';
    return filled;
}

/* JSON without its long texts */

/* So many texts are left out, and so many strings are looked at: who sends more of them sends no long texts. */
#define GAPS_MAX 2048
#define STRINGS_MAX 65536
#define BLOCK 64

/* Whose texts nobody reads here (`bytes_in_python.TEXT_NAMES`). */
static int is_text_name(Span name)
{
    switch (name.size) {
    case 4:
        return memcmp(name.at, "text", 4) == 0;
    case 6:
        return memcmp(name.at, "system", 6) == 0;
    case 7:
        return memcmp(name.at, "content", 7) == 0;
    case 8:
        return memcmp(name.at, "thinking", 8) == 0;
    case 9:
        return memcmp(name.at, "signature", 9) == 0;
    case 11:
        return memcmp(name.at, "description", 11) == 0;
    default:
        return 0;
    }
}

/* The four hexadecimal digits of a \u at `at`; -1 where it is none. */
static int unit_of(Span raw, size_t at)
{
    int unit = 0;
    if (raw.size - at < 6 || raw.at[at] != '\\' || raw.at[at + 1] != 'u') {
        return -1;
    }
    for (size_t place = at + 2; place < at + 6; place++) {
        int value = hex_value(raw.at[place]);
        if (value < 0) {
            return -1;
        }
        unit = unit * 16 + value;
    }
    return unit;
}

/* How long the escape is that begins at `at`, a pair of surrogates as one; 0 where it is none (RFC 8259 7). */
static size_t escape_size(Span raw, size_t at)
{
    if (raw.size - at < 2) {
        return 0;
    }
    byte one = raw.at[at + 1];
    if (one != 'u') {
        return one != 0 && strchr("\"\\/bfnrt", one) != NULL ? 2 : 0;
    }
    int unit = unit_of(raw, at);
    if (unit < 0 || (unit & 0xFC00) == 0xDC00) {
        return 0;
    }
    if ((unit & 0xFC00) != 0xD800) {
        return 6;
    }
    int next = unit_of(raw, at + 6);
    return next >= 0 && (next & 0xFC00) == 0xDC00 ? 12 : 0;
}

#ifdef __SSE2__

static uint64_t bits(__m128i one, __m128i two, __m128i three, __m128i four)
{
    uint64_t low = (uint64_t)(uint32_t)_mm_movemask_epi8(one) | (uint64_t)(uint32_t)_mm_movemask_epi8(two) << 16;
    uint64_t high = (uint64_t)(uint32_t)_mm_movemask_epi8(three) | (uint64_t)(uint32_t)_mm_movemask_epi8(four) << 16;
    return low | high << 32;
}

/* A bit for each byte of the block that is `value`. */
#define PLACES_OF(value)                                                       \
    bits(                                                                      \
        _mm_cmpeq_epi8(one, _mm_set1_epi8(value)), _mm_cmpeq_epi8(two, _mm_set1_epi8(value)), \
        _mm_cmpeq_epi8(three, _mm_set1_epi8(value)), _mm_cmpeq_epi8(four, _mm_set1_epi8(value)))

/* Past the blocks of a string that have neither its end nor anything but text and the commonest escapes. */
static size_t plain_end(Span raw, size_t at)
{
    const __m128i control = _mm_set1_epi8(0x1F);
    uint64_t is_cut = 0; /* 1: the block before ends in a backslash whose escape goes on in this one */
    for (; raw.size - at >= BLOCK; at += BLOCK) {
        const __m128i *block = (const __m128i *)(raw.at + at);
        __m128i one = _mm_loadu_si128(block), two = _mm_loadu_si128(block + 1);
        __m128i three = _mm_loadu_si128(block + 2), four = _mm_loadu_si128(block + 3);
        __m128i least = _mm_min_epu8(_mm_min_epu8(one, two), _mm_min_epu8(three, four));
        if (_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(least, control), least)) != 0) {
            break;
        }
        uint64_t quotes = PLACES_OF('"'), slashes = PLACES_OF('\\'), was_cut = is_cut;
        if ((slashes | was_cut) != 0) {
            /* Of a run of backslashes every second is escaped; adding carries from the start of a run past its end. */
            uint64_t begins = slashes & ~was_cut, after = begins << 1 | was_cut;
            uint64_t odd = begins & IN_EACH(0xAA) & ~after, sum = odd + begins;
            uint64_t escaped = (IN_EACH(0x55) ^ sum << 1) & after;
            is_cut = sum < odd;
            quotes &= ~escaped;
            if (escaped != 0 && (escaped & ~(PLACES_OF('"') | slashes | PLACES_OF('n') | PLACES_OF('t'))) != 0) {
                is_cut = was_cut;
                break;
            }
        }
        if (quotes != 0) {
            is_cut = was_cut;
            break;
        }
    }
    return at - is_cut;
}

#else

/* Past the bytes of a string that are nothing but text, by eights. */
static size_t plain_end(Span raw, size_t at)
{
    for (; raw.size - at >= WORD_BYTES; at += WORD_BYTES) {
        uint64_t word = word_at(raw.at + at), quote = word ^ IN_EACH('"'), slash = word ^ IN_EACH('\\');
        uint64_t found = ((word - IN_EACH(0x20)) & ~word) | ((quote - IN_EACH(1)) & ~quote);
        found |= (slash - IN_EACH(1)) & ~slash;
        if ((found & IN_EACH(0x80)) != 0) {
            break;
        }
    }
    return at;
}

#endif

/* The place of the quote that ends the string whose text begins at `at`; raw.size where it has no end, or is none. */
static size_t string_end(Span raw, size_t at)
{
    for (;;) {
        size_t stop = raw.size - at < BLOCK ? raw.size : at + BLOCK;
        while (at < stop) {
            byte one = raw.at[at];
            size_t size = one == '\\' ? escape_size(raw, at) : one >= 0x20;
            if (one == '"' || size == 0) {
                return one == '"' ? at : raw.size;
            }
            at += size;
        }
        if (at == raw.size) {
            return at;
        }
        at = plain_end(raw, at);
    }
}

typedef struct {
    size_t gaps, size;
    struct {
        size_t start, stop;
    } gap[GAPS_MAX];
} Gaps;

/* Find the texts of `least` bytes and more; 0 where a string has no end or is none, or where there are too many. */
static int find_gaps(Span raw, size_t least, Gaps *gaps)
{
    Span before = {raw.at, 0}; /* the string before this one */
    size_t at = 0;
    for (size_t strings = 0; strings < STRINGS_MAX; strings++) {
        const byte *quote = memchr(raw.at + at, '"', raw.size - at);
        if (quote == NULL || gaps->gaps == GAPS_MAX) {
            return 1;
        }
        size_t start = (size_t)(quote - raw.at) + 1, end = string_end(raw, start);
        if (end == raw.size) {
            return 0;
        }
        if (end - start >= least && is_text_name(before) && before.at[before.size + 1] == ':' &&
            (quote - before.at == (ptrdiff_t)before.size + 2 ||
             (quote - before.at == (ptrdiff_t)before.size + 3 && quote[-1] == ' '))) {
            gaps->gap[gaps->gaps].start = start;
            gaps->gap[gaps->gaps++].stop = end;
            gaps->size += end - start;
        }
        before.at = raw.at + start;
        before.size = end - start;
        at = end + 1;
    }
    return 0;
}

static PyObject *without_texts(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t size)
{
    Span raw;
    size_t least;
    Gaps gaps;
    gaps.gaps = gaps.size = 0;
    if (!are_so_many(size, 2) || !bytes_of(args[0], &raw) || !size_of(args[1], 1, PY_SSIZE_T_MAX, &least)) {
        return NULL;
    }
    if (!find_gaps(raw, least, &gaps) || gaps.gaps == 0) {
        Py_RETURN_NONE;
    }
    PyObject *told = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(raw.size - gaps.size));
    byte *to = told == NULL ? NULL : (byte *)PyBytes_AsString(told);
    if (to == NULL) {
        Py_XDECREF(told);
        return NULL;
    }
    size_t at = 0;
    for (size_t number = 0; number < gaps.gaps; number++) {
        size_t kept = gaps.gap[number].start - at;
        memcpy(to, raw.at + at, kept);
        to += kept;
        at = gaps.gap[number].stop;
    }
    memcpy(to, raw.at + at, raw.size - at);
    return told;
}

/* The module */

static PyMethodDef METHODS[] = {
    {"head_reader", FAST(head_reader), METH_FASTCALL, NULL},
    {"count_deltas", FAST(count_deltas), METH_FASTCALL, NULL},
    {"chunk_counter", chunk_counter, METH_O, NULL},
    {"plain_chunk", plain_chunk, METH_O, NULL},
    {"known_head", FAST(known_head), METH_FASTCALL, NULL},
    {"fill_line", FAST(fill_line), METH_FASTCALL, NULL},
    {"without_texts", FAST(without_texts), METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot SLOTS[] = {{0, NULL}};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_bytes",
    .m_doc = "Byte work; `bytes_in_python` is the reference.",
    .m_size = 0,
    .m_methods = METHODS,
    .m_slots = SLOTS,
};

PyMODINIT_FUNC PyInit__bytes(void)
{
    fill_crc();
    return PyModuleDef_Init(&MODULE);
}

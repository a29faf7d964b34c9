/* Requests and answers that are plain, read in one pass. `plain_in_python.py` is the reference: what is read here, is
 * read there alike (tests/unit/wire/test_plain.py, `make fuzz-native`). Why, and what it saves:
 * docs/decisions/0009-native-bytes.md.
 *
 * The rules of `_bytes.c` hold here too. JSON is that of RFC 8259 and nothing more; whatever is in any doubt (a name that
 * stands twice or has an escape, a number that is no count, half of a surrogate pair, what is nested deeply) is not
 * plain, and left to who reads it member by member.
 */

#include "_span.h"

/* As in `domain/usage.py`, `wire/answers.py` and `wire/inspect.py`; a test holds them equal. */
#define COUNT_MAX 1000000000000
#define WORD_CHARS_MAX 128
#define USAGE_BYTES_MAX 2048
#define MODEL_CHARS_MAX 256
#define TOKENS_MAX 1000000000
#define MESSAGES_MAX 200
/* Each level is a bit of a word. */
#define DEPTH_MAX 64

typedef struct {
    const byte *at, *end;
} Text;

/* JSON. Each of these moves over what it is named for, and is 0 where that is not there. */

static void skip_space(Text *text)
{
    while (text->at < text->end && (*text->at == ' ' || *text->at == '\n' || *text->at == '\r' || *text->at == '\t')) {
        text->at++;
    }
}

static int skip_byte(Text *text, byte one)
{
    if (text->at == text->end || *text->at != one) {
        return 0;
    }
    text->at++;
    return 1;
}

/* `one` and the white space on both sides. */
static int skip_mark(Text *text, byte one)
{
    skip_space(text);
    if (!skip_byte(text, one)) {
        return 0;
    }
    skip_space(text);
    return 1;
}

static int skip_literal(Text *text, const char *literal, size_t size)
{
    if ((size_t)(text->end - text->at) < size || memcmp(text->at, literal, size) != 0) {
        return 0;
    }
    text->at += size;
    return 1;
}

#define SKIP(text, literal) skip_literal(text, literal, sizeof(literal) - 1)

/* The four hex digits of an escape; -1 where they are none. */
static int skip_code(Text *text)
{
    int code = 0;
    if (text->end - text->at < 4) {
        return -1;
    }
    for (int digit = 0; digit < 4; digit++) {
        byte one = *text->at++, letter = (byte)(one | 0x20);
        if (one >= '0' && one <= '9') {
            code = code * 16 + one - '0';
        } else if (letter >= 'a' && letter <= 'f') {
            code = code * 16 + letter - 'a' + 10;
        } else {
            return -1;
        }
    }
    return code;
}

static int skip_escape(Text *text)
{
    text->at++;
    if (text->at == text->end) {
        return 0;
    }
    switch (*text->at++) {
    case 'n':
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'r':
    case 't':
        return 1;
    case 'u':
        break;
    default:
        return 0;
    }
    int code = skip_code(text);
    if (code < 0xD800 || code > 0xDFFF) {
        return code >= 0;
    }
    if (code > 0xDBFF || !SKIP(text, "\\u")) {
        return 0;
    }
    code = skip_code(text);
    return code >= 0xDC00 && code <= 0xDFFF;
}

/* The first of these bytes in a word, as a bit of it; exact up to the first, which is the lowest. */
static uint64_t ends_in(uint64_t word)
{
    uint64_t quote = word ^ IN_EACH('"'), slash = word ^ IN_EACH('\\');
    uint64_t control = (word - IN_EACH(0x20)) & ~word;
    return (((quote - IN_EACH(1)) & ~quote) | ((slash - IN_EACH(1)) & ~slash) | control) & IN_EACH(0x80);
}

/* To the first quotation mark, backslash or control character, or the end. */
static const byte *plain_end(const byte *at, const byte *end)
{
    for (; (size_t)(end - at) >= WORD_BYTES; at += WORD_BYTES) {
        uint64_t word, ends;
        memcpy(&word, at, WORD_BYTES);
        ends = ends_in(word);
        if (ends != 0) {
#if defined(__GNUC__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
            return at + __builtin_ctzll(ends) / 8;
#else
            break;
#endif
        }
    }
    while (at < end && *at >= 0x20 && *at != '"' && *at != '\\') {
        at++;
    }
    return at;
}

static int skip_string(Text *text)
{
    if (!skip_byte(text, '"')) {
        return 0;
    }
    for (;;) {
        text->at = plain_end(text->at, text->end);
        if (text->at == text->end) {
            return 0;
        }
        if (*text->at == '"') {
            text->at++;
            return 1;
        }
        if (*text->at != '\\' || !skip_escape(text)) {
            return 0;
        }
    }
}

static size_t skip_digits(Text *text)
{
    const byte *start = text->at;
    while (text->at < text->end && *text->at >= '0' && *text->at <= '9') {
        text->at++;
    }
    return (size_t)(text->at - start);
}

static int skip_number(Text *text)
{
    (void)skip_byte(text, '-');
    if (!skip_byte(text, '0') && skip_digits(text) == 0) {
        return 0;
    }
    if (skip_byte(text, '.') && skip_digits(text) == 0) {
        return 0;
    }
    if (skip_byte(text, 'e') || skip_byte(text, 'E')) {
        if (!skip_byte(text, '+')) {
            (void)skip_byte(text, '-');
        }
        return skip_digits(text) > 0;
    }
    return 1;
}

static int skip_scalar(Text *text)
{
    if (text->at == text->end) {
        return 0;
    }
    switch (*text->at) {
    case '"':
        return skip_string(text);
    case 't':
        return SKIP(text, "true");
    case 'f':
        return SKIP(text, "false");
    case 'n':
        return SKIP(text, "null");
    default:
        return skip_number(text);
    }
}

static int skip_name(Text *text)
{
    return skip_string(text) && skip_mark(text, ':');
}

static int skip_value(Text *text)
{
    uint64_t objects = 0; /* of the lists and objects that are open, the innermost last: whether it is an object */
    size_t depth = 0;
    for (;;) {
        int is_object = text->at < text->end && *text->at == '{';
        if (is_object || (text->at < text->end && *text->at == '[')) {
            text->at++;
            skip_space(text);
            if (!skip_byte(text, is_object ? '}' : ']')) {
                if (depth++ == DEPTH_MAX) {
                    return 0;
                }
                objects = objects << 1 | (uint64_t)is_object;
                if (is_object && !skip_name(text)) {
                    return 0;
                }
                continue;
            }
        } else if (!skip_scalar(text)) {
            return 0;
        }
        /* A value has ended: so do what it is the last of. */
        while (depth > 0 && !skip_mark(text, ',')) {
            if (!skip_byte(text, objects & 1 ? '}' : ']')) {
                return 0;
            }
            objects >>= 1;
            depth--;
        }
        if (depth == 0) {
            return 1;
        }
        if (objects & 1 && !skip_name(text)) {
            return 0;
        }
    }
}

/* What is inside of a string without escapes. */
static int take_name(Text *text, Span *name)
{
    if (!skip_byte(text, '"')) {
        return 0;
    }
    name->at = text->at;
    text->at = plain_end(text->at, text->end);
    name->size = (size_t)(text->at - name->at);
    return skip_byte(text, '"');
}

/* The same, where it is 1 to `most` printable ASCII characters. */
static int take_word(Text *text, size_t most, Span *word)
{
    if (!take_name(text, word) || word->size == 0 || word->size > most) {
        return 0;
    }
    for (size_t at = 0; at < word->size; at++) {
        if (word->at[at] >= 0x7F) {
            return 0;
        }
    }
    return 1;
}

static int take_count(Text *text, int64_t most, int64_t *count)
{
    int64_t value = 0;
    const byte *start = text->at;
    while (text->at < text->end && *text->at >= '0' && *text->at <= '9') {
        value = value * 10 + (*text->at++ - '0');
        if (value > most) {
            return 0;
        }
    }
    if (text->at == start || (*start == '0' && text->at - start > 1)) {
        return 0;
    }
    *count = value;
    return text->at == text->end || (*text->at != '.' && *text->at != 'e' && *text->at != 'E');
}

/* Objects whose members are known */

typedef enum {
    ANY,
    STRING,
    WORD,
    MAYBE_WORD,
    MODEL,
    TOKENS,
    FLAG,
    COUNT,
    MAYBE_COUNT,
    NOTHING,
    STANDARD,
    GLOBAL,
    NULL_ALONE,
    SPLIT,
    TOOLS,
    DETAILS,
    USAGE,
    MESSAGES,
} Kind;

typedef struct {
    const char *name;
    size_t size;
    Kind kind;
    size_t place; /* of a count or a word */
} Member;

#define MEMBER(name, kind, place) {name, sizeof(name) - 1, kind, place}

enum { INPUT, OUTPUT, WRITTEN, READ, WRITTEN_5M, WRITTEN_1H, THINKING, ASKED_TOKENS, COUNTS };
enum { MODEL_WORD, REASON_WORD, ROLE_WORD, USAGE_TEXT, WORDS };

typedef struct {
    int64_t count[COUNTS];
    Span word[WORDS];
    int stream;
} Told;

typedef struct {
    const Member *members;
    size_t size;
    uint32_t needed; /* of its members, a bit each */
    int has_others;  /* other members may be in it, and are skipped */
} Shape;

#define SHAPE(members, needed, has_others) {members, sizeof(members) / sizeof(members[0]), needed, has_others}

static const Member SPLIT_MEMBERS[] = {
    MEMBER("ephemeral_5m_input_tokens", MAYBE_COUNT, WRITTEN_5M),
    MEMBER("ephemeral_1h_input_tokens", MAYBE_COUNT, WRITTEN_1H),
};
static const Member TOOLS_MEMBERS[] = {
    MEMBER("web_search_requests", NOTHING, 0),
    MEMBER("web_fetch_requests", NOTHING, 0),
};
static const Member DETAILS_MEMBERS[] = {MEMBER("thinking_tokens", MAYBE_COUNT, THINKING)};
static const Member USAGE_MEMBERS[] = {
    MEMBER("input_tokens", COUNT, INPUT),
    MEMBER("output_tokens", COUNT, OUTPUT),
    MEMBER("cache_creation_input_tokens", MAYBE_COUNT, WRITTEN),
    MEMBER("cache_read_input_tokens", MAYBE_COUNT, READ),
    MEMBER("cache_creation", SPLIT, 0),
    MEMBER("server_tool_use", TOOLS, 0),
    MEMBER("output_tokens_details", DETAILS, 0),
    MEMBER("speed", STANDARD, 0),
    MEMBER("inference_geo", GLOBAL, 0),
    MEMBER("service_tier", STANDARD, 0),
    MEMBER("iterations", NULL_ALONE, 0),
};
static const Member ANSWER_MEMBERS[] = {
    MEMBER("model", WORD, MODEL_WORD),
    MEMBER("usage", USAGE, USAGE_TEXT),
    MEMBER("stop_reason", MAYBE_WORD, REASON_WORD),
};
static const Member MESSAGE_MEMBERS[] = {MEMBER("role", WORD, ROLE_WORD), MEMBER("content", STRING, 0)};
static const Member REQUEST_MEMBERS[] = {
    MEMBER("model", MODEL, MODEL_WORD), MEMBER("max_tokens", TOKENS, ASKED_TOKENS),
    MEMBER("messages", MESSAGES, 0),    MEMBER("stream", FLAG, 0),
    MEMBER("system", STRING, 0),        MEMBER("temperature", ANY, 0),
    MEMBER("metadata", ANY, 0),         MEMBER("stop_sequences", ANY, 0),
    MEMBER("top_p", ANY, 0),            MEMBER("top_k", ANY, 0),
    MEMBER("thinking", ANY, 0),
};

static const Shape SPLIT_SHAPE = SHAPE(SPLIT_MEMBERS, 0, 1);
static const Shape TOOLS_SHAPE = SHAPE(TOOLS_MEMBERS, 0, 1);
static const Shape DETAILS_SHAPE = SHAPE(DETAILS_MEMBERS, 0, 1);
static const Shape USAGE_SHAPE = SHAPE(USAGE_MEMBERS, 3, 1);
static const Shape ANSWER_SHAPE = SHAPE(ANSWER_MEMBERS, 3, 1);
static const Shape MESSAGE_SHAPE = SHAPE(MESSAGE_MEMBERS, 3, 0);
static const Shape REQUEST_SHAPE = SHAPE(REQUEST_MEMBERS, 7, 0);

static int read_object(Text *text, const Shape *shape, Told *told);

static int read_messages(Text *text, Told *told)
{
    size_t messages = 0;
    if (!skip_byte(text, '[')) {
        return 0;
    }
    skip_space(text);
    if (skip_byte(text, ']')) {
        return 1;
    }
    do {
        if (messages++ == MESSAGES_MAX || !read_object(text, &MESSAGE_SHAPE, told)) {
            return 0;
        }
    } while (skip_mark(text, ','));
    return skip_byte(text, ']');
}

static int read_flag(Text *text, int *is_set)
{
    *is_set = SKIP(text, "true");
    return *is_set || SKIP(text, "false") || SKIP(text, "null");
}

static int read_usage(Text *text, Told *told)
{
    Span *usage = &told->word[USAGE_TEXT];
    usage->at = text->at;
    if (!read_object(text, &USAGE_SHAPE, told)) {
        return 0;
    }
    usage->size = (size_t)(text->at - usage->at);
    return usage->size <= USAGE_BYTES_MAX;
}

/* The one recursion of this file, three deep at most: an answer has a usage, and that has a split. */
static int read_value(Text *text, const Member *member, Told *told)
{
    int64_t none;
    switch (member->kind) {
    case ANY:
        return skip_value(text);
    case STRING:
        return skip_string(text);
    case MAYBE_WORD:
        return SKIP(text, "null") || take_word(text, WORD_CHARS_MAX, &told->word[member->place]);
    case WORD:
        return take_word(text, WORD_CHARS_MAX, &told->word[member->place]);
    case MODEL:
        return take_word(text, MODEL_CHARS_MAX, &told->word[member->place]);
    case TOKENS:
        return take_count(text, TOKENS_MAX, &told->count[member->place]);
    case FLAG:
        return read_flag(text, &told->stream);
    case MAYBE_COUNT:
        return SKIP(text, "null") || take_count(text, COUNT_MAX, &told->count[member->place]);
    case COUNT:
        return take_count(text, COUNT_MAX, &told->count[member->place]);
    case NOTHING:
        return SKIP(text, "null") || take_count(text, 0, &none);
    case STANDARD:
        return SKIP(text, "\"standard\"") || SKIP(text, "null");
    case GLOBAL:
        return SKIP(text, "\"global\"") || SKIP(text, "null");
    case NULL_ALONE:
        return SKIP(text, "null");
    case SPLIT:
        return SKIP(text, "null") || read_object(text, &SPLIT_SHAPE, told);
    case TOOLS:
        return SKIP(text, "null") || read_object(text, &TOOLS_SHAPE, told);
    case DETAILS:
        return SKIP(text, "null") || read_object(text, &DETAILS_SHAPE, told);
    case USAGE:
        return read_usage(text, told);
    case MESSAGES:
        return read_messages(text, told);
    }
    return 0;
}

/* The place of the member that is named so; the number of members where it is none of them. */
static size_t find_member(const Shape *shape, Span name)
{
    size_t at = 0;
    while (at < shape->size &&
           (shape->members[at].size != name.size || memcmp(shape->members[at].name, name.at, name.size) != 0)) {
        at++;
    }
    return at;
}

static int read_object(Text *text, const Shape *shape, Told *told)
{
    uint32_t seen = 0;
    if (!skip_byte(text, '{')) {
        return 0;
    }
    skip_space(text);
    if (skip_byte(text, '}')) {
        return shape->needed == 0;
    }
    do {
        Span name;
        if (!take_name(text, &name) || !skip_mark(text, ':')) {
            return 0;
        }
        size_t at = find_member(shape, name);
        if (at == shape->size) {
            if (!shape->has_others || !skip_value(text)) {
                return 0;
            }
        } else if (seen >> at & 1 || !read_value(text, &shape->members[at], told)) {
            return 0;
        } else {
            seen |= (uint32_t)1 << at;
        }
    } while (skip_mark(text, ','));
    return skip_byte(text, '}') && (seen & shape->needed) == shape->needed;
}

/* Whether `given` is exactly bytes, which are an object of this shape and nothing else; -1 with an exception. */
static int read_whole(PyObject *given, const Shape *shape, Told *told)
{
    Span whole;
    if (!bytes_of(given, &whole)) {
        return -1;
    }
    Text text = {whole.at, whole.at + whole.size};
    memset(told, 0, sizeof(*told));
    skip_space(&text);
    if (!read_object(&text, shape, told)) {
        return 0;
    }
    skip_space(&text);
    return text.at == text.end;
}

/* What is told */

static PyObject *word_of(Span word)
{
    if (word.size == 0) {
        Py_RETURN_NONE;
    }
    return PyUnicode_FromStringAndSize((const char *)word.at, (Py_ssize_t)word.size); /* ASCII */
}

/* The tokens in the order of `Usage`: what was written to the cache beyond its split is for as long as was asked. */
static PyObject *counts_of(const int64_t *count, int wants_1h)
{
    int64_t written[] = {count[WRITTEN_5M], count[WRITTEN_1H]};
    int64_t beyond = count[WRITTEN] - written[0] - written[1];
    if (beyond > 0) {
        written[wants_1h] += beyond;
    }
    PyObject *told[] = {
        PyLong_FromLongLong(count[INPUT]), PyLong_FromLongLong(written[0]),    PyLong_FromLongLong(written[1]),
        PyLong_FromLongLong(count[READ]),  PyLong_FromLongLong(count[OUTPUT]), PyLong_FromLongLong(count[THINKING]),
    };
    return tuple_of(told, 6);
}

/* The inside of a JSON string for a text that is printable ASCII without a backslash; None for any other. */
static PyObject *quoted(Span text)
{
    byte written[2 * USAGE_BYTES_MAX], *out = written;
    const byte *at = text.at, *end = text.at + text.size;
    while (at < end) {
        const byte *stop = plain_end(at, end);
        for (; at < stop; at++) {
            if (*at >= 0x7F) {
                Py_RETURN_NONE;
            }
            *out++ = *at;
        }
        if (at < end) {
            if (*at++ != '"') {
                Py_RETURN_NONE;
            }
            *out++ = '\\';
            *out++ = '"';
        }
    }
    return PyBytes_FromStringAndSize((const char *)written, out - written);
}

static PyObject *plain_answer(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t size)
{
    Told told;
    if (size != 2 || !PyBool_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "bytes and a truth value are expected");
        return NULL;
    }
    int is_plain = read_whole(args[0], &ANSWER_SHAPE, &told);
    if (is_plain < 0) {
        return NULL;
    }
    PyObject *usage = is_plain ? quoted(told.word[USAGE_TEXT]) : Py_NewRef(Py_None);
    if (usage == NULL || usage == Py_None) {
        return usage;
    }
    PyObject *items[] = {
        word_of(told.word[MODEL_WORD]),
        word_of(told.word[REASON_WORD]),
        counts_of(told.count, args[1] == Py_True),
        usage,
    };
    return tuple_of(items, 4);
}

static PyObject *plain_request(PyObject *Py_UNUSED(module), PyObject *given)
{
    Told told;
    int is_plain = read_whole(given, &REQUEST_SHAPE, &told);
    if (is_plain < 0) {
        return NULL;
    }
    if (!is_plain) {
        Py_RETURN_NONE;
    }
    PyObject *items[] = {
        word_of(told.word[MODEL_WORD]),
        PyLong_FromLongLong(told.count[ASKED_TOKENS]),
        PyBool_FromLong(told.stream),
    };
    return tuple_of(items, 3);
}

/* The module */

static PyMethodDef METHODS[] = {
    {"plain_answer", FAST(plain_answer), METH_FASTCALL, NULL},
    {"plain_request", plain_request, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot SLOTS[] = {{0, NULL}};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_plain",
    .m_doc = "Plain requests and answers; `plain_in_python` is the reference.",
    .m_size = 0,
    .m_methods = METHODS,
    .m_slots = SLOTS,
};

PyMODINIT_FUNC PyInit__plain(void)
{
    return PyModuleDef_Init(&MODULE);
}

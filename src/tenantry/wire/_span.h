/* What the C of this folder has in common: CPython's limited API of 3.11, bytes that are looked at, values that are told. */

#ifndef TENANTRY_SPAN_H
#define TENANTRY_SPAN_H

#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef unsigned char byte;

#define WORD_BYTES sizeof(uint64_t)
#define IN_EACH(value) (UINT64_MAX / 255 * (value)) /* a word with that byte in each place */

/* A function for a table of methods that is called with an array of arguments. */
#define FAST(function) ((PyCFunction)(void (*)(void))(function))

typedef struct {
    const byte *at;
    size_t size;
} Span;

/* Whether `given` is exactly bytes; else an exception is set. */
static int bytes_of(PyObject *given, Span *span)
{
    char *at;
    Py_ssize_t size;
    if (!PyBytes_CheckExact(given)) {
        PyErr_SetString(PyExc_TypeError, "bytes are expected");
        return 0;
    }
    if (PyBytes_AsStringAndSize(given, &at, &size) < 0) {
        return 0;
    }
    span->at = (const byte *)at;
    span->size = (size_t)size;
    return 1;
}

/* A tuple of `items`, whose references it takes; NULL where one of them is. */
static PyObject *tuple_of(PyObject **items, Py_ssize_t size)
{
    int is_whole = 1;
    for (Py_ssize_t at = 0; at < size; at++) {
        is_whole = is_whole && items[at] != NULL;
    }
    PyObject *tuple = is_whole ? PyTuple_New(size) : NULL;
    for (Py_ssize_t at = 0; at < size; at++) {
        if (tuple == NULL) {
            Py_XDECREF(items[at]);
        } else {
            PyTuple_SetItem(tuple, at, items[at]); /* cannot fail: the tuple is new, and the index is in it */
        }
    }
    return tuple;
}

#endif

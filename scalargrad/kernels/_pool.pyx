"""Memory for the kernels' results, kept when an array is freed and given to the next one of its size.

A fresh page costs about 3 us at its first touch, so a training step that takes all its memory anew spends most of its
time there: LeNet at batch 64 took 3.4 ms, and 1.0 ms with the pool. What it holds, in use and kept together, never
exceeds twice the most that was lately in use at one time: once would do if all blocks had one size. "Lately" is the last
one or two WINDOWs of allocations, so that one large batch is not remembered for ever. The kernels' results are of the
pool, and tensors that are made of numbers. The arrays own their memory like any other, and name the pool as what frees
it, as NumPy has its arrays do (NEP 49); the process's malloc is left alone.
"""

import os
from types import MethodType

import numpy as np

cimport numpy as cnp
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

cnp.import_array()

cdef extern from *:
    """
    #include <numpy/arrayobject.h>
    static inline PyObject* weak_references(PyObject* array) { return ((PyArrayObject_fields*)array)->weakreflist; }
    /* An array that owns this memory, which `handler` frees; of NumPy's memory if there is none. NumPy's own way, to set
       its allocator and set it back around the making of an array, takes 100 ns. tracemalloc is told, as NumPy does. */
    #define NUMPY_IN_TRACEMALLOC 389047  /* numpy.lib.tracemalloc_domain */
    static inline PyObject* new_array(PyArray_Descr* dtype, int ndim, npy_intp* dims, void* memory, size_t n_bytes,
                                      PyObject* handler) {
        PyObject* array;
        Py_INCREF(dtype);  /* which the next call takes */
        array = PyArray_NewFromDescr(&PyArray_Type, dtype, ndim, dims, NULL, memory, memory ? NPY_ARRAY_CARRAY : 0, NULL);
        if (array != NULL && memory != NULL) {
            Py_INCREF(handler);
            ((PyArrayObject_fields*)array)->mem_handler = handler;
            PyArray_ENABLEFLAGS((PyArrayObject*)array, NPY_ARRAY_OWNDATA);
            PyTraceMalloc_Track(NUMPY_IN_TRACEMALLOC, (size_t)memory, n_bytes);
        }
        return array;
    }
    /* Arrays are freed on whatever thread drops them, without the interpreter's lock in a free-threaded Python. Held
       for the few instructions of a list operation. */
    static char pool_lock_flag = 0;
    static inline void lock_pool(void) { while (__atomic_test_and_set(&pool_lock_flag, __ATOMIC_ACQUIRE)) { } }
    static inline void unlock_pool(void) { __atomic_clear(&pool_lock_flag, __ATOMIC_RELEASE); }
    /* Memory for a large block. On Linux it begins where a page of 2 MB can, and asks for such pages. It is the
       system's, because what malloc has may have been touched before, in pages of 4 KB, and then stays so. */
    #if defined(__linux__) && !defined(__SANITIZE_ADDRESS__)
    #include <sys/mman.h>
    #define HUGE_PAGE ((size_t)1 << 21)
    #define WHOLE_PAGES(n) (((n) + 0xFFFF) & ~(size_t)0xFFFF)  /* the largest that are usual have 64 KB */
    static inline void* large_memory(size_t n) {
        size_t length = WHOLE_PAGES(n);
        char *memory = mmap(NULL, length + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        char *start = (char*)(((size_t)memory + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));
        if (memory == (char*)MAP_FAILED) return NULL;
        if (start > memory) munmap(memory, start - memory);
        munmap(start + length, memory + HUGE_PAGE - start);
        madvise(start, n & ~(HUGE_PAGE - 1), MADV_HUGEPAGE);
        return start;
    }
    static inline void free_large(void* memory, size_t n) { munmap(memory, WHOLE_PAGES(n)); }
    #else
    #define large_memory malloc
    #define free_large(memory, n) free(memory)
    #endif
    static inline int log2_of(size_t n) { return 8 * (int)sizeof(unsigned long long) - 1 - __builtin_clzll(n); }
    """
    cnp.ndarray new_array(cnp.dtype dtype, int ndim, cnp.npy_intp* dims, void* memory, size_t n_bytes, object handler)
    bint PyDataType_REFCHK(cnp.dtype dtype) noexcept
    PyObject* weak_references(object array) noexcept
    Py_ssize_t Py_REFCNT(object)
    void lock_pool() noexcept nogil
    void unlock_pool() noexcept nogil
    void* large_memory(size_t n) noexcept nogil
    void free_large(void* memory, size_t n) noexcept nogil
    int log2_of(size_t n) noexcept nogil
    object PyDataMem_SetHandler(object handler)
    ctypedef struct PyDataMemAllocator:
        void* ctx
        void* (*malloc)(void*, size_t) noexcept nogil
        void* (*calloc)(void*, size_t, size_t) noexcept nogil
        void* (*realloc)(void*, void*, size_t) noexcept nogil
        void (*free)(void*, void*, size_t) noexcept nogil
    ctypedef struct PyDataMem_Handler:
        char name[127]
        unsigned char version
        PyDataMemAllocator allocator

# Four sizes for each power of two: a block is at most a quarter larger than what was asked for.
cdef enum:
    N_CLASSES = 4 * 64
    WINDOW = 4096  # allocations: some 200 steps of LeNet
    COUNTED_FROM = 1 << 15  # bytes: many small results between two large ones are no reason to forget these
    # From here on a block lies on pages of 2 MB, which the processor finds at hand more often than those of 4 KB, and of
    # which each takes one fault instead of 512: LeNet's first step at batch 1024 took 16 ms for 25, and every step at
    # 4096 took 68 ms for 72.
    LARGE = 1 << 21
    HEADER = 64  # before each block: its class, the next kept block of the class, what malloc gave

cdef struct Block:
    Block* next
    void* memory
    int size_class

cdef Block* kept[N_CLASSES]
cdef size_t bytes_in_use = 0, bytes_kept = 0
# The most that was in use at one time in this window and in the one before.
cdef size_t most_in_window = 0, most_before = 0
cdef size_t n_in_window = 0

memset(kept, 0, sizeof(kept))


cdef inline size_t size_of(int size_class) noexcept nogil:
    cdef int power = size_class // 4
    return (<size_t>1 << power) + (size_class % 4) * ((<size_t>1 << power) // 4)


cdef inline int class_for(size_t n) noexcept nogil:
    """The smallest class whose blocks hold n bytes."""
    cdef int power = log2_of(n if n > 64 else 64), found
    found = 4 * power
    while size_of(found) < n:
        found += 1
    return found


cdef inline size_t most_in_use() noexcept nogil:
    return most_in_window if most_in_window > most_before else most_before


cdef void evict(size_t coming) noexcept nogil:
    """Makes room for so many bytes more: gives back kept blocks, the largest first, until the bound holds with them."""
    cdef int size_class = N_CLASSES - 1
    cdef Block* block
    cdef size_t in_use = bytes_in_use + coming, most = most_in_use()
    if in_use > most:
        most = in_use
    while in_use + bytes_kept > 2 * most and size_class >= 0:
        block = kept[size_class]
        if block == NULL:
            size_class -= 1
            continue
        kept[size_class] = block.next
        release(block)


cdef void release(Block* block) noexcept nogil:
    global bytes_kept
    cdef size_t size = size_of(block.size_class)
    bytes_kept -= size
    if size < LARGE:
        free(block.memory)
    else:
        free_large(block.memory, size + HEADER + 64)


cdef void count(size_t size) noexcept nogil:
    """Notes that a block is in use."""
    global bytes_in_use, most_in_window, most_before, n_in_window
    bytes_in_use += size
    n_in_window += size >= COUNTED_FROM
    if bytes_in_use > most_in_window:
        most_in_window = bytes_in_use
    if n_in_window == WINDOW:
        most_before = most_in_window
        most_in_window = bytes_in_use
        n_in_window = 0
        evict(0)


cdef inline void* memory_for(size_t size) noexcept nogil:
    return malloc(size + HEADER + 64) if size < LARGE else large_memory(size + HEADER + 64)


cdef size_t LARGEST = <size_t>1 << 62


cdef void* pool_malloc(void* ctx, size_t n) noexcept nogil:
    global bytes_kept
    cdef int size_class
    cdef size_t size
    cdef Block* block
    cdef void* memory
    if n > LARGEST:
        return NULL
    size_class = class_for(n)
    size = size_of(size_class)
    lock_pool()
    block = kept[size_class]
    if block != NULL:
        kept[size_class] = block.next
        bytes_kept -= size
        count(size)
    else:
        evict(size)
    unlock_pool()
    if block != NULL:
        return <char*>block + HEADER
    memory = memory_for(size)
    if memory == NULL:
        give_back()
        memory = memory_for(size)
    if memory == NULL:
        return NULL
    lock_pool()
    count(size)
    unlock_pool()
    block = <Block*>((<uintptr_t>memory + 63) & ~<uintptr_t>63)
    block.memory = memory
    block.size_class = size_class
    return <char*>block + HEADER


cdef void pool_free(void* ctx, void* pointer, size_t n) noexcept nogil:
    global bytes_in_use, bytes_kept
    cdef Block* block
    cdef size_t size
    if pointer == NULL:
        return
    block = <Block*>(<char*>pointer - HEADER)
    size = size_of(block.size_class)
    lock_pool()
    block.next = kept[block.size_class]
    kept[block.size_class] = block
    bytes_in_use -= size
    bytes_kept += size
    unlock_pool()


cdef void* pool_calloc(void* ctx, size_t count, size_t size) noexcept nogil:
    cdef void* pointer
    if size and count > LARGEST // size:
        return NULL
    pointer = pool_malloc(ctx, count * size)
    if pointer != NULL:
        memset(pointer, 0, count * size)
    return pointer


cdef void* pool_realloc(void* ctx, void* pointer, size_t n) noexcept nogil:
    cdef void* larger
    cdef size_t size
    if pointer == NULL:
        return pool_malloc(ctx, n)
    size = size_of((<Block*>(<char*>pointer - HEADER)).size_class)
    if n <= size:
        return pointer
    larger = pool_malloc(ctx, n)
    if larger != NULL:
        memcpy(larger, pointer, size)
        pool_free(ctx, pointer, size)
    return larger


cdef PyDataMem_Handler allocator
memcpy(allocator.name, b"scalargrad_pool", 16)
allocator.version = 1
allocator.allocator.ctx = NULL
allocator.allocator.malloc = pool_malloc
allocator.allocator.calloc = pool_calloc
allocator.allocator.realloc = pool_realloc
allocator.allocator.free = pool_free

# What arrays name as the owner of their memory.
cdef object handler = PyCapsule_New(&allocator, "mem_handler", NULL)


cdef enum:
    POOL_FROM_BYTES = 1024  # what is smaller NumPy keeps for reuse by itself


cdef cnp.ndarray array_of(cnp.dtype dtype, int ndim, cnp.npy_intp* dims):
    """An array for a result, C-contiguous, its entries not set: of the pool, unless it is small."""
    cdef double n_bytes = dtype.itemsize
    cdef size_t n = 0
    cdef void* memory = NULL
    cdef int i
    for i in range(ndim):
        n_bytes *= dims[i]
    if POOL_FROM_BYTES <= n_bytes < LARGEST and not PyDataType_REFCHK(dtype):
        n = <size_t>n_bytes
        memory = pool_malloc(NULL, n)
    try:
        # Where the pool has none, NumPy may find some, or else says what there is no memory for.
        return new_array(dtype, ndim, dims, memory, n, handler)
    except BaseException:
        pool_free(NULL, memory, n)
        raise


def empty(shape, cnp.dtype dtype not None):
    """See `memory.empty`."""
    cdef cnp.npy_intp[64] dims
    cdef int i
    if len(shape) <= 64:
        try:
            for i in range(<int>len(shape)):
                dims[i] = shape[i]
            return array_of(dtype, <int>len(shape), dims)
        except OverflowError:
            pass
    return np.empty(shape, dtype)  # which says what is wrong with that


def copied(array, cnp.dtype dtype not None):
    """See `memory.copied`."""
    if not cnp.PyArray_Check(array):
        return np.array(array, dtype, order="C")
    cdef cnp.ndarray copy = array_of(
        dtype, cnp.PyArray_NDIM(<cnp.ndarray>array), cnp.PyArray_DIMS(<cnp.ndarray>array))
    cnp.PyArray_CopyInto(copy, <cnp.ndarray>array)
    return copy


def lend_to_numpy():
    """See `memory.lend_to_numpy`."""
    return PyDataMem_SetHandler(handler)


def take_back(before):
    """See `memory.take_back`."""
    PyDataMem_SetHandler(before)


cdef class pooled:
    """See `memory.pooled`."""

    cdef object function

    def __init__(self, function):
        self.function = function

    def __call__(self, *args, **kwargs):
        cdef object before = PyDataMem_SetHandler(handler)
        try:
            return self.function(*args, **kwargs)
        finally:
            PyDataMem_SetHandler(before)

    def __get__(self, instance, owner):
        return self if instance is None else MethodType(self, instance)


cdef inline bint _is_whole(array) noexcept:
    """Whether this is an array, and nothing derived from one, C-contiguous, of memory of its own."""
    return cnp.PyArray_CheckExact(array) and cnp.PyArray_CHKFLAGS(
        <cnp.ndarray>array, cnp.NPY_ARRAY_OWNDATA | cnp.NPY_ARRAY_C_CONTIGUOUS)


def is_own(array, tuple shape, dtype):
    """See `memory.is_own`."""
    cdef int i
    if not _is_whole(array) or <PyObject*>cnp.PyArray_DESCR(<cnp.ndarray>array) != <PyObject*>dtype:
        return False
    if cnp.PyArray_NDIM(<cnp.ndarray>array) != len(shape):
        return False
    for i in range(len(shape)):
        if cnp.PyArray_DIM(<cnp.ndarray>array, i) != <Py_ssize_t>shape[i]:
            return False
    return True


def references(array):
    """See `memory.references`."""
    return Py_REFCNT(array) if _is_whole(array) and weak_references(array) == NULL else -1


cdef void give_back() noexcept nogil:
    cdef int size_class
    cdef Block* block
    lock_pool()
    for size_class in range(N_CLASSES):
        while kept[size_class] != NULL:
            block = kept[size_class]
            kept[size_class] = block.next
            release(block)
    unlock_pool()


def _unlock():
    unlock_pool()


if hasattr(os, "register_at_fork"):
    # The thread that held the lock at the moment of a fork does not exist in the child.
    os.register_at_fork(after_in_child=_unlock)


def empty_pool():
    """Gives all kept memory back to the process."""
    global most_in_window, most_before
    give_back()
    lock_pool()
    most_in_window = bytes_in_use
    most_before = 0
    unlock_pool()


def pool_sizes():
    """Bytes in use by arrays, bytes kept for the next ones, and the most that were lately in use at one time."""
    return bytes_in_use, bytes_kept, most_in_use()

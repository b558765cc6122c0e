#define _GNU_SOURCE
#include "memory.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "api.h"

enum {
  MIB = 1 << 20,
  FREE_SLOTS = 128,         /* maximum number of free slots */
  SPARE_SLOTS = 32,         /* number of free slots from which on slots of other sizes are reused */
  KEEP_SLOT = 2 * MIB,      /* maximum bytes of written pages that a free slot keeps */
  KEEP_SLOTS = 8 * MIB,     /* maximum bytes that all free slots keep, including page tables */
  KEEP_MAPPED = 8 * MIB,    /* maximum bytes of one image that are mapped in free slots */
  FREE_STACKS = 16,         /* maximum number of free stacks; most guests end without suspending */
  KEEP_STACK = 64 * 1024,   /* bytes that a free stack keeps */
  TABLE_SHARE = 512,        /* a page table of 4 KiB maps 2 MiB */
  REGIONS = 64,             /* maximum number of page ranges that one scan returns */
};

struct image {
  const uint8_t *bytes; /* mapped read-only */
  size_t offset, size, memory_size;
  int fd;
  /* Protected by `lock`: */
  size_t references; /* slots, and one until image_delete */
  size_t free_slots;
  bool deleted;
};

/* start     base                                                 reserved
 * | guard   | accessible, of this [offset, offset + size) image | inaccessible | guard |
 *
 * The guard in front is a defence against miscompiled guests, as in wasmtime's own allocator. */
typedef struct {
  uint8_t *base;
  size_t reserved, guard;
  size_t minimum;    /* initial size of the memory, in bytes */
  size_t size;       /* current size of the memory, in bytes */
  size_t accessible; /* `size` rounded up to pages of the host */
  size_t highest;    /* largest `accessible` since the slot was mapped */
  size_t kept_end;   /* end of the last page that was kept */
  size_t kept;       /* bytes that the slot keeps resident while it is free */
  image_t *image;
} slot_t;

/* | guard page | size bytes | <- top: stacks grow downwards */
typedef struct fiber_stack {
  struct fiber_stack *next;
  uint8_t *top;
  size_t size;
} fiber_stack_t;

static image_t no_image = {.fd = -1, .references = 1};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static slot_t *free_slots[FREE_SLOTS]; /* least recently freed first */
static size_t free_count, free_kept;   /* `free_kept` is the sum of `kept` */
static fiber_stack_t *free_stacks;
static size_t free_stack_count;

static _Thread_local image_t *next_image;

/* ---- cleaning: finding and restoring written pages ---- */

/* struct pm_scan_arg and struct page_region of <linux/fs.h>, which older headers lack
 * (https://docs.kernel.org/admin-guide/mm/pagemap.html). */
typedef struct {
  uint64_t size, flags, start, end, walk_end, regions, region_count, max_pages;
  uint64_t inverted, mask, any_of, returned; /* categories */
} scan_t;
typedef struct {
  uint64_t start, end, categories;
} region_t;
#define SCAN_REQUEST _IOWR('f', 16, scan_t)
enum { PAGE_FILE = 1 << 2, PAGE_PRESENT = 1 << 3, PAGE_SWAPPED = 1 << 4, PAGE_ZERO = 1 << 5 };

typedef enum { UNPROVEN, PAGEMAP, MADVISE } method_t;
static _Atomic method_t method = UNPROVEN;
/* The descriptor belongs to the address space of the process that opened it: after a fork it still
 * reports the parent's pages. */
static int pagemap = -1;
static pthread_mutex_t test_lock = PTHREAD_MUTEX_INITIALIZER;

static void before_fork(void) {
  pthread_mutex_lock(&test_lock);
  pthread_mutex_lock(&lock);
}

static void after_fork_in_parent(void) {
  pthread_mutex_unlock(&lock);
  pthread_mutex_unlock(&test_lock);
}

/* Free slots remain usable: they are clean, and the child has its own copy. Slots of running
 * guests, and slots that another thread was cleaning, are never freed in the child. */
static void after_fork_in_child(void) {
  if (pagemap >= 0) close(pagemap);
  pagemap = -1;
  method = UNPROVEN;
  after_fork_in_parent();
}

static void watch_forks(void) {
  if (pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child) != 0) abort();
}

static size_t page_size(void) { return (size_t)sysconf(_SC_PAGESIZE); }

static size_t whole_pages(size_t bytes) { return (bytes + page_size() - 1) & ~(page_size() - 1); }

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

static size_t clamp(size_t value, size_t low, size_t high) {
  return value < low ? low : value > high ? high : value;
}

/* Restore the initial content of the pages in [from, to), which are offsets from the base. */
static void restore(const slot_t *slot, size_t from, size_t to) {
  const image_t *image = slot->image;
  size_t begin = clamp(image->offset, from, to);
  size_t end = clamp(image->offset + image->size, begin, to);
  memset(slot->base + from, 0, begin - from);
  if (end > begin) memcpy(slot->base + begin, image->bytes + (begin - image->offset), end - begin);
  memset(slot->base + end, 0, to - end);
}

/* Find the written pages and restore them. Returns false if there are too many to keep, or if the
 * scan failed; the slot is not clean then.
 *
 * A page may have been written if it is swapped out, or if it is present and neither the zero page
 * nor a page of a file (unwritten pages of the image are file pages). PRESENT must be requested
 * explicitly, since unused page table entries are not reported as the zero page either. */
static bool restore_written(slot_t *slot) {
  region_t regions[REGIONS];
  uint64_t base = (uintptr_t)slot->base;
  uint64_t from = base, end = base + larger(slot->accessible, slot->kept_end);
  uint64_t keep_pages = KEEP_SLOT / page_size(), pages = 0, kept_end = base;

  while (from < end) {
    scan_t scan = {
        .size = sizeof scan,
        .start = from,
        .end = end,
        .regions = (uintptr_t)regions,
        .region_count = REGIONS,
        .max_pages = keep_pages + 1 - pages,
        .inverted = PAGE_ZERO | PAGE_FILE,
        .mask = PAGE_ZERO | PAGE_FILE,
        .any_of = PAGE_PRESENT | PAGE_SWAPPED,
    };
    int count = ioctl(pagemap, SCAN_REQUEST, &scan);
    if (count < 0 || count > REGIONS || scan.walk_end <= from || scan.walk_end > end) return false;
    for (int i = 0; i < count; i++) pages += (regions[i].end - regions[i].start) / page_size();
    if (pages > keep_pages) return false;
    for (int i = 0; i < count; i++) {
      size_t first = regions[i].start - base, last = regions[i].end - base;
      /* Pages beyond `accessible` were cleaned before they became inaccessible. */
      if (first < slot->accessible) restore(slot, first, clamp(last, first, slot->accessible));
      kept_end = regions[i].end;
    }
    from = scan.walk_end;
  }
  slot->kept_end = kept_end - base;
  slot->kept = pages * page_size();
  return true;
}

/* Restore the initial state of a slot. Returns false on failure: the slot must not be reused. */
static bool clean(slot_t *slot, method_t how) {
  if (how != PAGEMAP || !restore_written(slot)) {
    size_t end = larger(slot->accessible, slot->kept_end);
    /* The next access finds zeros, or the image's pages. */
    if (madvise(slot->base, end, MADV_DONTNEED) != 0) return false;
    slot->kept_end = slot->kept = 0;
  }
  slot->kept += slot->highest / TABLE_SHARE; /* page tables remain, even those of discarded pages */
  return true;
}

/* ---- slots ---- */

/* Set the accessible size of a slot. The pages between the old and the new end must be clean. */
static bool make_accessible(slot_t *slot, size_t size) {
  size_t end = whole_pages(size), old = slot->accessible;
  if (end > old && mprotect(slot->base + old, end - old, PROT_READ | PROT_WRITE) != 0) {
    /* mprotect may have changed some of the pages, where a guest would not trap. */
    if (mprotect(slot->base + old, end - old, PROT_NONE) != 0) abort();
    return false;
  }
  if (end < old && mprotect(slot->base + end, old - end, PROT_NONE) != 0) return false;
  slot->accessible = end;
  slot->highest = larger(slot->highest, end);
  return true;
}

static void image_release(image_t *image) {
  pthread_mutex_lock(&lock);
  bool last = --image->references == 0;
  pthread_mutex_unlock(&lock);
  if (!last) return;
  munmap((void *)image->bytes, image->size);
  close(image->fd);
  free(image);
}

static void slot_unmap(slot_t *slot) {
  image_t *image = slot->image;
  /* On failure the address range leaks, but nothing uses it again. */
  (void)munmap(slot->base - slot->guard, slot->guard + slot->reserved + slot->guard);
  free(slot);
  image_release(image);
}

/* Map a slot without accessible pages. */
static slot_t *slot_map(image_t *image, size_t reserved, size_t guard) {
  slot_t *slot = calloc(1, sizeof *slot);
  size_t total;
  if (!slot || __builtin_add_overflow(reserved, 2 * guard, &total)) goto no_slot;
  uint8_t *start =
      mmap(NULL, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (start == MAP_FAILED) goto no_slot;
  slot->base = start + guard;
  if (image->size > 0) {
    void *place = slot->base + image->offset;
    int flags = MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE;
    if (mmap(place, image->size, PROT_NONE, flags, image->fd, 0) == MAP_FAILED) goto no_image;
  }
  /* Both calls fail on kernels without the feature. With huge pages, one written byte would cost
   * 2 MiB of cleaning. Merging equal pages would be a side channel between guests, and could
   * replace a page of an image by the zero page, which is not cleaned. */
  (void)madvise(start, total, MADV_NOHUGEPAGE);
  (void)madvise(start, total, MADV_UNMERGEABLE);

  slot->reserved = reserved;
  slot->guard = guard;
  slot->image = image;
  pthread_mutex_lock(&lock);
  image->references++;
  pthread_mutex_unlock(&lock);
  return slot;

no_image:
  munmap(start, total);
no_slot:
  free(slot);
  return NULL;
}

/* Remove a slot from the free list. The lock must be held. */
static slot_t *take(size_t index) {
  slot_t *slot = free_slots[index];
  free_count--;
  memmove(&free_slots[index], &free_slots[index + 1], (free_count - index) * sizeof slot);
  free_kept -= slot->kept;
  slot->image->free_slots--;
  return slot;
}

/* Take a free slot, preferably the most recently freed one. A slot whose memory had another initial
 * size needs a system call to adapt, so it is taken only if there are many free slots. */
static slot_t *slot_find(image_t *image, size_t minimum, size_t reserved, size_t guard) {
  slot_t *found = NULL;
  pthread_mutex_lock(&lock);
  size_t match = free_count, other = free_count;
  for (size_t i = free_count; i-- > 0;) {
    slot_t *slot = free_slots[i];
    if (slot->image != image || slot->reserved != reserved || slot->guard != guard) continue;
    other = i;
    if (slot->minimum != minimum) continue;
    match = i;
    break;
  }
  if (match == free_count && free_count >= SPARE_SLOTS) match = other;
  if (match < free_count) found = take(match);
  pthread_mutex_unlock(&lock);
  return found;
}

/* Choose the free slot to evict before `slot` can be kept: the least recently freed one, or the
 * least recently freed one of the same image. Returns `free_count` if none has to be evicted. The
 * lock must be held. */
static size_t choose_victim(const slot_t *slot) {
  const image_t *image = slot->image;
  if (free_count == FREE_SLOTS || free_kept + slot->kept > KEEP_SLOTS) return 0;
  if ((image->free_slots + 1) * image->size > KEEP_MAPPED)
    for (size_t i = 0; i < free_count; i++)
      if (free_slots[i]->image == image) return i;
  return free_count;
}

/* Add a clean slot to the free list, within its limits. */
static void slot_keep(slot_t *slot) {
  slot_t *victim;
  do {
    victim = NULL;
    pthread_mutex_lock(&lock);
    size_t index = choose_victim(slot);
    /* A slot with a large share of the budget would evict many others. */
    if (slot->image->deleted || slot->kept > KEEP_SLOTS / 2) {
      victim = slot;
    } else if (index < free_count) {
      victim = take(index);
    } else {
      free_slots[free_count++] = slot;
      free_kept += slot->kept;
      slot->image->free_slots++;
    }
    pthread_mutex_unlock(&lock);
    if (victim) slot_unmap(victim);
  } while (victim && victim != slot);
}

static method_t proven_method(void) {
  if (method == UNPROVEN && memory_self_test() != NULL) abort();
  return method;
}

/* ---- memories: wasmtime_linear_memory_t and wasmtime_memory_creator_t ---- */

typedef struct {
  void *env;
  uint8_t *(*get)(void *env, size_t *size, size_t *capacity);
  void *(*grow)(void *env, size_t size);
  void (*finalizer)(void *env);
} linear_memory_t;

typedef struct {
  void *env;
  void *(*new_memory)(void *env, const void *type, size_t minimum, size_t maximum, size_t reserved,
                      size_t guard, linear_memory_t *memory);
  void (*finalizer)(void *env);
} memory_creator_t;

static uint8_t *memory_get(void *env, size_t *size, size_t *capacity) {
  const slot_t *slot = env;
  *size = slot->size;
  *capacity = slot->reserved;
  return slot->base;
}

static void *memory_grow(void *env, size_t size) {
  slot_t *slot = env;
  if (size > slot->reserved) return wasmtime.error_new("the memory cannot be larger");
  if (size > slot->accessible && !make_accessible(slot, size))
    return wasmtime.error_new("no memory for a larger memory");
  slot->size = size;
  return NULL;
}

static void memory_free(void *env) {
  slot_t *slot = env;
  if (clean(slot, proven_method())) {
    slot_keep(slot);
  } else {
    slot_unmap(slot);
  }
}

/* The image of a memory. wasmtime also allocates the garbage-collected heap as a memory, which has
 * no image. */
static image_t *take_image(size_t minimum) {
  image_t *image = next_image;
  if (!image || image->memory_size != minimum) return &no_image;
  next_image = NULL;
  return image;
}

static void *memory_new(void *env, const void *type, size_t minimum, size_t maximum,
                        size_t reserved, size_t guard, linear_memory_t *memory) {
  (void)env, (void)type, (void)maximum;
  image_t *image = take_image(minimum);
  reserved = larger(reserved, whole_pages(minimum));
  slot_t *slot = slot_find(image, minimum, reserved, guard);
  if (!slot) slot = slot_map(image, reserved, guard);
  if (!slot) return wasmtime.error_new("no address space for a linear memory");
  slot->minimum = slot->size = minimum;
  if (!make_accessible(slot, minimum)) {
    slot_unmap(slot);
    return wasmtime.error_new("no memory for a linear memory");
  }
  *memory = (linear_memory_t){slot, memory_get, memory_grow, memory_free};
  return NULL;
}

void memory_set_image(image_t *image) { next_image = image; }

/* ---- stacks: wasmtime_stack_memory_t and wasmtime_stack_creator_t ---- */

typedef struct {
  void *env;
  uint8_t *(*get)(void *env, size_t *size);
  void (*finalizer)(void *env);
} stack_memory_t;

typedef struct {
  void *env;
  void *(*new_stack)(void *env, size_t size, bool zeroed, stack_memory_t *stack);
  void (*finalizer)(void *env);
} stack_creator_t;

static uint8_t *stack_get(void *env, size_t *size) {
  const fiber_stack_t *stack = env;
  *size = stack->size;
  return stack->top;
}

static void stack_unmap(fiber_stack_t *stack) {
  (void)munmap(stack->top - stack->size - page_size(), page_size() + stack->size);
  free(stack);
}

/* Discard the pages below the top KEEP_STACK bytes. Few guests reach them, so the system call is
 * made only if the first page below is not zero. A guest cannot pass that page without writing to
 * it: frames hold return addresses, and large frames are probed page by page. */
static bool stack_trim(fiber_stack_t *stack) {
  if (stack->size <= KEEP_STACK) return true;
  const uint8_t *below = stack->top - KEEP_STACK - page_size();
  if (below[0] == 0 && memcmp(below, below + 1, page_size() - 1) == 0) return true;
  return madvise(stack->top - stack->size, stack->size - KEEP_STACK, MADV_DONTNEED) == 0;
}

static void stack_free(void *env) {
  fiber_stack_t *stack = env;
  bool keep = stack_trim(stack);
  pthread_mutex_lock(&lock);
  keep = keep && free_stack_count < FREE_STACKS;
  if (keep) {
    stack->next = free_stacks;
    free_stacks = stack;
    free_stack_count++;
  }
  pthread_mutex_unlock(&lock);
  if (!keep) stack_unmap(stack);
}

static fiber_stack_t *stack_find(size_t size) {
  fiber_stack_t *found = NULL;
  pthread_mutex_lock(&lock);
  for (fiber_stack_t **link = &free_stacks; *link && !found; link = &(*link)->next)
    if ((*link)->size == size) {
      found = *link;
      *link = found->next;
      free_stack_count--;
      break;
    }
  pthread_mutex_unlock(&lock);
  return found;
}

static fiber_stack_t *stack_map(size_t size) {
  fiber_stack_t *stack = malloc(sizeof *stack);
  size_t total = page_size() + size;
  uint8_t *start =
      mmap(NULL, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (!stack || start == MAP_FAILED ||
      mprotect(start + page_size(), size, PROT_READ | PROT_WRITE) != 0) {
    if (start != MAP_FAILED) munmap(start, total);
    free(stack);
    return NULL;
  }
  (void)madvise(start, total, MADV_NOHUGEPAGE);
  (void)madvise(start, total, MADV_UNMERGEABLE);
  *stack = (fiber_stack_t){.top = start + total, .size = size};
  return stack;
}

static void *stack_new(void *env, size_t size, bool zeroed, stack_memory_t *memory) {
  (void)env;
  size = whole_pages(size);
  fiber_stack_t *stack = stack_find(size);
  if (stack && zeroed && madvise(stack->top - size, size, MADV_DONTNEED) != 0) {
    stack_unmap(stack);
    stack = NULL;
  }
  if (!stack) stack = stack_map(size);
  if (!stack) return wasmtime.error_new("no memory for a stack");
  *memory = (stack_memory_t){stack, stack_get, stack_free};
  return NULL;
}

void memory_configure(void *config) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  memory_creator_t memories = {NULL, memory_new, NULL};
  stack_creator_t stacks = {NULL, stack_new, NULL};
  pthread_once(&once, watch_forks);
  wasmtime.config_host_memory_creator_set(config, &memories);
  wasmtime.config_host_stack_creator_set(config, &stacks);
}

/* ---- images ---- */

static bool write_all(int fd, const uint8_t *bytes, size_t size) {
  for (size_t done = 0; done < size;) {
    ssize_t written = pwrite(fd, bytes + done, size - done, (off_t)done);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    done += (size_t)written;
  }
  return true;
}

/* Create a file in memory whose content is sealed. Returns -1 on failure. */
static int sealed_file(const uint8_t *bytes, size_t size) {
  const unsigned noexec = 0x8; /* MFD_NOEXEC_SEAL (Linux 6.3); vm.memfd_noexec may require it */
  int fd = memfd_create("wagi-image", MFD_CLOEXEC | MFD_ALLOW_SEALING | noexec);
  if (fd < 0) fd = memfd_create("wagi-image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  int seals = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
  if (fd >= 0 && write_all(fd, bytes, size) && fcntl(fd, F_ADD_SEALS, seals) == 0) return fd;
  if (fd >= 0) close(fd);
  return -1;
}

image_t *image_new(const uint8_t *bytes, uint64_t offset, uint64_t size, uint64_t memory_size) {
  if (size == 0 || offset > memory_size || size > memory_size - offset) return NULL;
  if ((offset | size | memory_size) % page_size() != 0) return NULL;
  int fd = sealed_file(bytes, size);
  if (fd < 0) return NULL;
  image_t *image = calloc(1, sizeof *image);
  /* Private, since Linux before 6.7 rejects shared mappings of sealed files. */
  void *mapped = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (!image || mapped == MAP_FAILED) {
    if (mapped != MAP_FAILED) munmap(mapped, size);
    close(fd);
    free(image);
    return NULL;
  }
  image->bytes = mapped;
  image->offset = offset;
  image->size = size;
  image->memory_size = memory_size;
  image->fd = fd;
  image->references = 1;
  return image;
}

/* Take a free slot of an image. Returns NULL if the image has no free slots. */
static slot_t *take_slot_of(const image_t *image) {
  slot_t *slot = NULL;
  pthread_mutex_lock(&lock);
  for (size_t i = 0; i < free_count && !slot; i++)
    if (free_slots[i]->image == image) slot = take(i);
  pthread_mutex_unlock(&lock);
  return slot;
}

void image_delete(image_t *image) {
  if (next_image == image) next_image = NULL;
  pthread_mutex_lock(&lock);
  image->deleted = true; /* its slots are no longer added to the free list */
  pthread_mutex_unlock(&lock);
  for (slot_t *slot; (slot = take_slot_of(image));) slot_unmap(slot);
  image_release(image);
}

/* ---- the self-test ---- */

enum {
  TEST_SIZE = MIB / 2,
  TEST_GROWN = 2 * TEST_SIZE,
  TEST_IMAGE = TEST_SIZE / 4,
  MAX_PAGE = 64 * 1024,
};

/* Return the expected content of a page of a clean slot. */
static const uint8_t *clean_page(const slot_t *slot, size_t at, const uint8_t *zeros) {
  const image_t *image = slot->image;
  bool in_image = at >= image->offset && at - image->offset < image->size;
  return in_image ? image->bytes + (at - image->offset) : zeros;
}

static bool is_clean(const slot_t *slot) {
  static const uint8_t zeros[MAX_PAGE];
  for (size_t at = 0; at < slot->accessible; at += page_size())
    if (memcmp(slot->base + at, clean_page(slot, at, zeros), page_size()) != 0) return false;
  return true;
}

/* Use a slot as a guest would: read it, grow it, and write to some of its pages. Returns false if
 * it was not clean, or could not grow. */
static bool use_slot(slot_t *slot, size_t distance) {
  if (!make_accessible(slot, TEST_SIZE) || !is_clean(slot)) return false;
  if (!make_accessible(slot, TEST_GROWN)) return false;
  for (size_t at = page_size(); at < TEST_GROWN; at += distance * page_size())
    slot->base[at + at / 7 % page_size()] ^= 0xff;
  return true;
}

static const char *test_slot(slot_t *slot, method_t how) {
  static const struct {
    size_t distance; /* in pages, between pages that are written */
    bool discard;
  } rounds[] = {{13, false}, {1, true}, {5, false}};
  for (size_t i = 0; i < sizeof rounds / sizeof *rounds; i++) {
    method_t with = rounds[i].discard ? MADVISE : how;
    if (!use_slot(slot, rounds[i].distance)) return "a linear memory is not clean at first";
    if (!clean(slot, with)) return "a linear memory cannot be cleaned";
    if (!is_clean(slot)) return "bytes of one guest reach the next one";
    if (with == PAGEMAP && slot->kept_end == 0) return "written pages cannot be found";
  }
  return NULL;
}

static const char *test_image(image_t *image, method_t how) {
  slot_t *slot = slot_map(image, 2 * TEST_GROWN, TEST_SIZE);
  if (!slot) return "no address space for a linear memory";
  const char *fault = test_slot(slot, how);
  slot_unmap(slot);
  return fault;
}

static const char *test_method(method_t how) {
  uint8_t *bytes = malloc(TEST_IMAGE);
  if (!bytes) return "no memory";
  memset(bytes, 0xa5, TEST_IMAGE);
  image_t *image = image_new(bytes, TEST_IMAGE, TEST_IMAGE, TEST_SIZE);
  free(bytes);
  if (!image) return "no file in memory (memfd_create) for the data of modules";
  const char *fault = test_image(&no_image, how);
  if (!fault) fault = test_image(image, how);
  image_delete(image);
  return fault;
}

const char *memory_self_test(void) {
  pthread_mutex_lock(&test_lock);
  if (pagemap < 0) pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  bool scannable = pagemap >= 0 && page_size() <= MAX_PAGE;
  method_t works = scannable && !test_method(PAGEMAP) ? PAGEMAP : MADVISE;
  const char *fault = works == PAGEMAP ? NULL : test_method(MADVISE);
  method = works;
  pthread_mutex_unlock(&test_lock);
  return fault;
}

const char *memory_method(void) { return proven_method() == PAGEMAP ? "pagemap" : "madvise"; }

uint64_t memory_kept(void) {
  return KEEP_SLOTS + (uint64_t)FREE_STACKS * (KEEP_STACK + KEEP_STACK / TABLE_SHARE);
}

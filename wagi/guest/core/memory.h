/* Linear memories and fiber stacks of guests, kept in free lists between guests. Linux only.
 *
 * A slot is the address range of one linear memory, of which the beginning is accessible. When a
 * guest ends, its slot is restored to what a new guest has to find: zeros, and the data of its
 * module. Only pages that the guest has written are restored; the kernel reports which those are
 * (PAGEMAP_SCAN, Linux 6.7). The isolation of guests from each other depends on this file.
 *
 * All functions may be called from any thread.
 */
#ifndef WAGI_CORE_MEMORY_H
#define WAGI_CORE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The initial data of a module's memory, mapped copy-on-write into its slots. */
typedef struct image image_t;

/* Make an image. `offset` is its place in the linear memory, `memory_size` the initial size of that
 * memory; both and `size` are in bytes and multiples of the page size. Returns NULL if there is no
 * memory, or if the image does not fit there. The image holds a file descriptor. */
image_t *image_new(const uint8_t *bytes, uint64_t offset, uint64_t size, uint64_t memory_size);

/* Free an image and its slots: those of running guests when the guests end. */
void image_delete(image_t *image);

/* Set the image of the instance that this thread makes next, or NULL. The first memory of the
 * image's `memory_size` takes it; memories after that one start with zeros. */
void memory_set_image(image_t *image);

/* Make an engine's configuration (wasm_config_t) allocate memories and stacks here. The
 * configuration must have `memory_init_cow` off, and `api_load` must have been called. */
void memory_configure(void *config);

/* Verify in this process that slots are clean for their next guests. If PAGEMAP_SCAN is not
 * available or does not find what was written, free slots are discarded as a whole from then on,
 * and that is verified instead. Returns NULL, or what is wrong: then no guest may be run here. */
const char *memory_self_test(void);

/* How the slots of ended guests are cleaned: "pagemap" or "madvise". The first use in a process,
 * and the first one after a fork, runs the self-test. */
const char *memory_method(void);

/* An upper bound of the bytes that free slots and free stacks keep resident, page tables included.
 * Pages of images are not counted: they are shared. */
uint64_t memory_kept(void);

#endif

/* An allocator of linear memories and fiber stacks that reuses them between guests. Linux only.
 *
 * A slot is the address range of one linear memory; a prefix of it is accessible. When a guest
 * ends, its slot is restored to the initial state of a guest: zeros and the data of its module.
 * Only the pages that the guest has written are restored; the kernel reports them (PAGEMAP_SCAN,
 * Linux 6.7). The isolation of guests from each other depends on this file.
 *
 * All functions are thread-safe.
 */
#ifndef WAGI_CORE_MEMORY_H
#define WAGI_CORE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The initial data of a module's memory, mapped copy-on-write into its slots. */
typedef struct image image_t;

/* Create an image. `offset` is its offset in the linear memory, `memory_size` the initial size of
 * that memory; all sizes are in bytes and multiples of the page size. Returns NULL if out of
 * memory, or if the image does not fit into the memory. The image holds a file descriptor. */
image_t *image_new(const uint8_t *bytes, uint64_t offset, uint64_t size, uint64_t memory_size);

/* Free an image and its slots; slots of running guests are freed when the guests end. */
void image_delete(image_t *image);

/* Set the image, or NULL, of the next instance that this thread creates. It is mapped into the
 * first memory with the image's `memory_size`; other memories start with zeros. */
void memory_set_image(image_t *image);

/* Install this allocator in an engine's configuration (wasm_config_t), whose `memory_init_cow` must
 * be off. `api_load` must have been called. */
void memory_configure(void *config);

/* Verify in this process that slots are clean when they are reused. If PAGEMAP_SCAN is not
 * available or misses written pages, all pages of free slots are discarded from then on, and this
 * method is verified instead. Returns NULL, or a description of the failure: no
 * guest may run then. */
const char *memory_self_test(void);

/* Return how slots are cleaned: "pagemap" or "madvise". The first use in a process, and the first
 * use after a fork, runs the self-test. */
const char *memory_method(void);

/* Return an upper bound on the bytes that free slots and free stacks keep resident, including page
 * tables. Pages of images are not counted, since they are shared. */
uint64_t memory_kept(void);

#endif

// The C interface of the Rust crate in engine/, where each function is described.
#include <stddef.h>
#include <stdint.h>

typedef struct dora_zenoh_session dora_zenoh_session;
typedef struct dora_zenoh_publisher_s dora_zenoh_publisher_s;
typedef struct dora_zenoh_subscriber dora_zenoh_subscriber;
typedef struct dora_zenoh_pool_s dora_zenoh_pool_s;
typedef struct dora_zenoh_sample dora_zenoh_sample;

typedef struct {
	uint32_t segment;
	uint32_t offset;
	uint8_t *start;
	size_t length;
} dora_zenoh_place;

typedef struct {
	const uint8_t *payload;
	size_t payload_length;
	const uint8_t *attachment;
	size_t attachment_length;
	int shared;
	size_t segment;
	size_t offset;
} dora_zenoh_view;

dora_zenoh_session *dora_zenoh_open(const uint8_t *config, size_t length, char *error, size_t capacity);
int dora_zenoh_locator(const dora_zenoh_session *session, char *error, size_t capacity);
int dora_zenoh_segment(const dora_zenoh_session *session, size_t segment, size_t *size);
void dora_zenoh_close(dora_zenoh_session *session);

dora_zenoh_publisher_s *dora_zenoh_publisher(const dora_zenoh_session *session, const uint8_t *key, size_t length,
	char *error, size_t capacity);
void dora_zenoh_publisher_free(dora_zenoh_publisher_s *publisher);
int dora_zenoh_put(const dora_zenoh_publisher_s *publisher, const uint8_t *payload, size_t payload_length,
	const uint8_t *attachment, size_t attachment_length, char *error, size_t capacity);

dora_zenoh_pool_s *dora_zenoh_pool(size_t size, char *error, size_t capacity);
void dora_zenoh_pool_free(dora_zenoh_pool_s *pool);
size_t dora_zenoh_pool_held(dora_zenoh_pool_s *pool, uint64_t *back);
uint8_t *dora_zenoh_pool_take(dora_zenoh_pool_s *pool, size_t length, size_t most);
int dora_zenoh_put_taken(const dora_zenoh_publisher_s *publisher, dora_zenoh_pool_s *pool,
	const uint8_t *attachment, size_t attachment_length, char *error, size_t capacity);
int dora_zenoh_put_outside(const dora_zenoh_publisher_s *publisher, dora_zenoh_pool_s *pool, const dora_zenoh_place *place,
	int count, const uint8_t *attachment, size_t attachment_length, uint64_t *number, char *error, size_t capacity);
uint64_t dora_zenoh_pool_returned(dora_zenoh_pool_s *pool);

dora_zenoh_subscriber *dora_zenoh_subscribe(const dora_zenoh_session *session, const uint8_t *key, size_t length,
	uintptr_t handle, char *error, size_t capacity);
void dora_zenoh_unsubscribe(dora_zenoh_subscriber *subscriber);
void dora_zenoh_sample_view(const dora_zenoh_sample *sample, dora_zenoh_view *view);
int dora_zenoh_sample_valid(const dora_zenoh_sample *sample);
void dora_zenoh_sample_free(dora_zenoh_sample *sample);

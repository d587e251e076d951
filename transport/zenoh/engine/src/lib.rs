//! The C interface of the Zenoh engine for the Go package `transport/zenoh`.
//!
//! Objects are boxes that the caller frees with the function of their kind. No panic
//! crosses the border. A function that can fail writes why into `error`, a buffer of
//! `capacity` bytes, ending with a zero byte. The declarations in C are in `engine.h`.

mod border;

use std::ffi::{c_char, c_int};
use std::num::NonZeroUsize;
use std::ptr::{null, null_mut};
use std::sync::Arc;

use border::{bytes, guard, quiet, text};
use zenoh::Wait;
use zenoh::bytes::ZBytes;
use zenoh::qos::{CongestionControl, Priority};
use zenoh::sample::Sample;
use zenoh::shm::{
    AllocAlignment, GarbageCollect, MemoryLayout, PosixShmProviderBackend, ShmBuf, ShmProvider,
    ShmClientStorage, ShmProviderBuilder, ZShm, ZShmMut,
};

/// Arrow wants its buffers at multiples of 2^7 bytes, as official nodes align them.
const ALIGNMENT: u8 = 7;

/// One Zenoh session.
pub struct Session(zenoh::Session);

/// Sends on one key.
pub struct Publisher(zenoh::pubsub::Publisher<'static>);

/// Calls back for every sample on one key.
pub struct Subscriber(zenoh::pubsub::Subscriber<()>);

/// Memory that is shared with peers on this machine, and what of it is lent to them.
pub struct Pool {
    provider: ShmProvider<PosixShmProviderBackend>,
    lent: Vec<(u64, ZShm)>,
    free: Option<ZShmMut>,
    /// How many payloads were sent, and the number of the newest that came back.
    sent: u64,
    back: u64,
}

/// A sample that was received, in one piece.
pub struct Received {
    payload: ZBytes,
    /// The payload in one piece, if it came in several.
    copy: Vec<u8>,
    attachment: Vec<u8>,
    shared: bool,
}

unsafe extern "C" {
    /// Takes a sample over, to free it with `dora_zenoh_sample_free`. Must not block. In C
    /// the sample has no known content.
    #[allow(improper_ctypes)]
    fn doraZenohSample(handle: usize, sample: *mut Received);
}

/// Opens a session with a JSON5 configuration.
///
/// # Safety
/// Pointers must be valid for their lengths.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dora_zenoh_open(
    config: *const u8,
    length: usize,
    error: *mut c_char,
    capacity: usize,
) -> *mut Session {
    guard(error, capacity, null_mut(), || {
        let config = zenoh::Config::from_json5(text(unsafe { bytes(config, length) })?)?;
        // Memory of peers that is mapped here is let go with the session.
        let clients = Arc::new(ShmClientStorage::builder().with_default_client_set().build());
        let session = zenoh::open(config).with_shm_clients(clients).wait()?;
        Ok(Box::into_raw(Box::new(Session(session))))
    })
}

/// Writes the session's first listening address, and returns its length in bytes.
///
/// # Safety
/// `session` must be open; pointers must be valid for their lengths.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dora_zenoh_locator(
    session: *const Session,
    error: *mut c_char,
    capacity: usize,
) -> c_int {
    guard(error, capacity, -1, || {
        let all = unsafe { &*session }.0.info().locators().wait();
        let first = all.first().ok_or("the session listens nowhere")?.to_string();
        border::write(error, capacity, &first);
        Ok(first.len() as c_int)
    })
}

/// Closes a session; what was declared on it must be freed too, before or after.
///
/// # Safety
/// `session` must come from `dora_zenoh_open` and not be used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dora_zenoh_close(session: *mut Session) {
    quiet(|| {
        let session = unsafe { Box::from_raw(session) };
        let _ = session.0.close().wait();
    });
}

/// Declares a publisher that loses nothing: it waits where a peer does not keep up.
///
/// # Safety
/// `session` must be open; pointers must be valid for their lengths.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dora_zenoh_publisher(
    session: *const Session,
    key: *const u8,
    length: usize,
    error: *mut c_char,
    capacity: usize,
) -> *mut Publisher {
    guard(error, capacity, null_mut(), || {
        let key = text(unsafe { bytes(key, length) })?.to_owned();
        let publisher = unsafe { &*session }
            .0
            .declare_publisher(key)
            .congestion_control(CongestionControl::Block)
            .priority(Priority::RealTime)
            .express(true)
            .wait()?;
        Ok(Box::into_raw(Box::new(Publisher(publisher))))
    })
}

/// Undeclares a publisher.
///
/// # Safety
/// `publisher` must not be used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dora_zenoh_publisher_free(publisher: *mut Publisher) {
    quiet(|| drop(unsafe { Box::from_raw(publisher) }));
}

/// Subscribes to a key: `doraZenohSample` is called with `handle` for every sample, from
/// a thread of the engine.
///
/// # Safety
/// `session` must be open; pointers must be valid for their lengths.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dora_zenoh_subscribe(
    session: *const Session,
    key: *const u8,
    length: usize,
    handle: usize,
    error: *mut c_char,
    capacity: usize,
) -> *mut Subscriber {
    guard(error, capacity, null_mut(), || {
        let key = text(unsafe { bytes(key, length) })?.to_owned();
        let subscriber = unsafe { &*session }
            .0
            .declare_subscriber(key)
            .callback(move |sample| quiet(|| deliver(handle, sample)))
            .wait()?;
        Ok(Box::into_raw(Box::new(Subscriber(subscriber))))
    })
}

/// Ends a subscription: no call comes for it once this has returned.
///
/// # Safety
/// `subscriber` must not be used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dora_zenoh_unsubscribe(subscriber: *mut Subscriber) {
    quiet(|| {
        let _ = unsafe { Box::from_raw(subscriber) }.0.undeclare().wait();
    });
}

fn deliver(handle: usize, sample: Sample) {
    let payload = sample.payload().clone();
    let shared = payload.as_shm().is_some();
    let copy = if payload.slices().count() > 1 { payload.to_bytes().into_owned() } else { Vec::new() };
    let attachment = sample.attachment().map(|a| a.to_bytes().into_owned()).unwrap_or_default();
    let received = Box::new(Received { payload, copy, attachment, shared });
    unsafe { doraZenohSample(handle, Box::into_raw(received)) };
}

/// What of a sample is where. Pointers are valid until it is freed.
#[repr(C)]
pub struct View {
    payload: *const u8,
    payload_length: usize,
    attachment: *const u8,
    attachment_length: usize,
    /// 1 if the payload lies in memory that its sender shares.
    shared: c_int,
}

/// Looks into a sample.
///
/// # Safety
/// `sample` must not be freed yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dora_zenoh_sample_view(sample: *const Received, view: *mut View) {
    let sample = unsafe { &*sample };
    let payload = if sample.copy.is_empty() { sample.payload.slices().next().unwrap_or(&[]) } else { &sample.copy };
    unsafe {
        *view = View {
            payload: if payload.is_empty() { null() } else { payload.as_ptr() },
            payload_length: payload.len(),
            attachment: sample.attachment.as_ptr(),
            attachment_length: sample.attachment.len(),
            shared: sample.shared as c_int,
        }
    };
}

/// Says whether what was read from a sample's shared memory until now is its content:
/// Zenoh takes memory away from readers that look dead to it.
///
/// # Safety
/// `sample` must not be freed yet.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dora_zenoh_sample_valid(sample: *const Received) -> c_int {
    let sample = unsafe { &*sample };
    sample.payload.as_shm().is_none_or(|s| s.is_valid()) as c_int
}

/// Gives a sample up; its sender may use the memory again.
///
/// # Safety
/// `sample` must not be used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dora_zenoh_sample_free(sample: *mut Received) {
    quiet(|| drop(unsafe { Box::from_raw(sample) }));
}

/// Sends a payload that lies in ordinary memory; returns 0, or -1 with an error.
///
/// # Safety
/// `publisher` must be declared; pointers must be valid for their lengths.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dora_zenoh_put(
    publisher: *const Publisher,
    payload: *const u8,
    payload_length: usize,
    attachment: *const u8,
    attachment_length: usize,
    error: *mut c_char,
    capacity: usize,
) -> c_int {
    guard(error, capacity, -1, || {
        let payload = unsafe { bytes(payload, payload_length) };
        let attachment = unsafe { bytes(attachment, attachment_length) };
        unsafe { &*publisher }.0.put(payload).attachment(attachment).wait()?;
        Ok(0)
    })
}

/// Makes a pool of `size` bytes of shared memory.
///
/// # Safety
/// `error` must be valid for `capacity` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dora_zenoh_pool(size: usize, error: *mut c_char, capacity: usize) -> *mut Pool {
    guard(error, capacity, null_mut(), || {
        let alignment = AllocAlignment::new(ALIGNMENT)?;
        let layout = MemoryLayout::new(size, alignment)?;
        let provider = ShmProviderBuilder::default_backend(layout).wait()?;
        Ok(Box::into_raw(Box::new(Pool { provider, lent: Vec::new(), free: None, sent: 0, back: 0 })))
    })
}

/// Gives a pool up.
///
/// # Safety
/// `pool` must not be used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dora_zenoh_pool_free(pool: *mut Pool) {
    quiet(|| drop(unsafe { Box::from_raw(pool) }));
}

/// How many payloads of a pool its readers hold. `back` becomes the number (from 1, in the
/// order of sending) of the newest that they gave back. One caller at a time per pool.
///
/// # Safety
/// `pool` must not be freed; `back` must be valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dora_zenoh_pool_held(pool: *mut Pool, back: *mut u64) -> usize {
    let mut held = 0;
    quiet(|| {
        let pool = unsafe { &mut *pool };
        pool.reclaim();
        held = pool.lent.len();
        unsafe { *back = pool.back };
    });
    held
}

/// Copies a payload into the pool and sends it. Returns 0; 1 if nothing was sent because
/// the pool has no room, or `most` payloads are with readers already; -1 with an error.
/// One caller at a time per pool.
///
/// # Safety
/// `publisher` and `pool` must not be freed; pointers must be valid for their lengths.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dora_zenoh_put_shared(
    publisher: *const Publisher,
    pool: *mut Pool,
    most: usize,
    payload: *const u8,
    payload_length: usize,
    attachment: *const u8,
    attachment_length: usize,
    error: *mut c_char,
    capacity: usize,
) -> c_int {
    guard(error, capacity, -1, || {
        let payload = unsafe { bytes(payload, payload_length) };
        let attachment = unsafe { bytes(attachment, attachment_length) };
        let pool = unsafe { &mut *pool };
        let Some(length) = NonZeroUsize::new(payload.len()) else {
            return Err("a payload in shared memory has at least one byte".into());
        };
        let Some(mut room) = pool.take(length, most) else {
            return Ok(1);
        };
        let target: &mut [u8] = &mut room;
        if target.len() != payload.len() {
            return Err("the pool gave memory of another size".into());
        }
        target.copy_from_slice(payload);
        let room = ZShm::from(room);
        pool.sent += 1;
        pool.lent.push((pool.sent, room.clone()));
        unsafe { &*publisher }.0.put(room).attachment(attachment).wait()?;
        Ok(0)
    })
}

impl Pool {
    /// Takes back what no reader holds any more. The last one is kept at hand: it is still
    /// in the processor's caches.
    fn reclaim(&mut self) {
        let mut kept = Vec::with_capacity(self.lent.len() + 1);
        for (number, buffer) in self.lent.drain(..) {
            match ZShmMut::try_from(buffer) {
                Ok(mine) => {
                    self.free = Some(mine);
                    self.back = self.back.max(number);
                }
                Err(buffer) if buffer.is_valid() => kept.push((number, buffer)),
                Err(_) => {}
            }
        }
        self.lent = kept;
    }

    /// Memory for a payload.
    fn take(&mut self, length: NonZeroUsize, most: usize) -> Option<ZShmMut> {
        self.reclaim();
        if self.lent.len() >= most {
            return None;
        }
        match self.free.take() {
            Some(free) if free.len() == length.get() => Some(free),
            _ => self.provider.alloc(length.get()).with_policy::<GarbageCollect>().wait().ok(),
        }
    }
}

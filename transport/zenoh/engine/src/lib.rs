//! The C interface of the Zenoh engine for the Go package `transport/zenoh`.
//!
//! Objects are boxes that the caller frees with the function of their kind. No panic
//! crosses the border. A function that can fail writes why into `error`, a buffer of
//! `capacity` bytes, ending with a zero byte. The declarations in C are in `engine.h`.

mod border;
mod outside;
mod places;

use std::ffi::{c_char, c_int};
use std::num::NonZeroUsize;
use std::ptr::{null, null_mut};
use std::sync::Arc;

use border::{Failure, bytes, guard, quiet, text};
use outside::{Outside, Returned};
use places::{Client, Places};
use zenoh::Wait;
use zenoh::bytes::ZBytes;
use zenoh::qos::{CongestionControl, Priority};
use zenoh::sample::Sample;
use zenoh::shm::{
    AllocAlignment, ChunkDescriptor, GarbageCollect, MemoryLayout, PosixShmProviderBackend, SegmentID, ShmBuf,
    ShmClientStorage, ShmProvider, ShmProviderBuilder, ZShm, ZShmMut,
};

/// Arrow wants its buffers at multiples of 2^7 bytes, as official nodes align them.
const ALIGNMENT: u8 = 7;

/// One Zenoh session, and what of its peers' shared memory it has mapped.
pub struct Session(zenoh::Session, Arc<Places>);

/// Sends on one key.
pub struct Publisher(zenoh::pubsub::Publisher<'static>);

/// Calls back for every sample on one key.
pub struct Subscriber(zenoh::pubsub::Subscriber<()>);

/// Memory that is shared with peers on this machine, and what is lent to them, of this and of
/// others' memory.
pub struct Pool {
    provider: ShmProvider<PosixShmProviderBackend>,
    lent: Vec<Lent>,
    free: Option<ZShmMut>,
    outside: ShmProvider<Outside>,
    returned: Arc<Returned>,
    taken: Option<ZShmMut>,
    /// How many payloads were sent, and the number of the newest that came back.
    sent: u64,
    back: u64,
}

/// A payload that readers may still hold. Its number is 0 if it does not count.
struct Lent {
    number: u64,
    outside: bool,
    buffer: ZShm,
}

/// A sample that was received, in one piece.
pub struct Received {
    payload: ZBytes,
    /// The payload in one piece, if it came in several.
    copy: Vec<u8>,
    attachment: Vec<u8>,
    shared: bool,
    /// Where the payload is, by number of the session's segment from 1 on; 0 for nowhere.
    segment: usize,
    offset: usize,
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
        let places = Arc::new(Places::default());
        let client = Arc::new(Client(places.clone()));
        let clients = Arc::new(ShmClientStorage::builder().with_client(client).build());
        let session = zenoh::open(config).with_shm_clients(clients).wait()?;
        Ok(Box::into_raw(Box::new(Session(session, places))))
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

/// A file descriptor of a segment that a sample named, which stays the session's, and the
/// segment's size in bytes; -1 if there is none.
///
/// # Safety
/// `session` must be open; `size` must be valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dora_zenoh_segment(session: *const Session, segment: usize, size: *mut usize) -> c_int {
    let mut found = -1;
    quiet(|| {
        if let Some((fd, length)) = unsafe { &*session }.1.file(segment) {
            unsafe { *size = length };
            found = fd;
        }
    });
    found
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
        let session = unsafe { &*session };
        let places = session.1.clone();
        let subscriber = session
            .0
            .declare_subscriber(key)
            .callback(move |sample| quiet(|| deliver(handle, &places, sample)))
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

fn deliver(handle: usize, places: &Places, sample: Sample) {
    let payload = sample.payload().clone();
    let shared = payload.as_shm().is_some();
    let mut slices = payload.slices();
    let first = slices.next().unwrap_or(&[]);
    let whole = slices.next().is_none();
    let (segment, offset) = if shared && whole { places.find(first) } else { (0, 0) };
    let copy = if whole { Vec::new() } else { payload.to_bytes().into_owned() };
    let attachment = sample.attachment().map(|a| a.to_bytes().into_owned()).unwrap_or_default();
    drop(slices);
    let received = Box::new(Received { payload, copy, attachment, shared, segment, offset });
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
    /// Which segment of `dora_zenoh_segment` that is, 0 if unknown, and where in it.
    segment: usize,
    offset: usize,
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
            segment: sample.segment,
            offset: sample.offset,
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
        let returned = Arc::new(Returned::default());
        let outside = ShmProviderBuilder::backend(Outside(returned.clone())).wait();
        Ok(Box::into_raw(Box::new(Pool {
            provider,
            lent: Vec::new(),
            free: None,
            outside,
            returned,
            taken: None,
            sent: 0,
            back: 0,
        })))
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

/// The number of a payload in others' memory that no reader held any more at the latest
/// `dora_zenoh_pool_held`, each once; 0 if there is none. One caller at a time per pool.
///
/// # Safety
/// `pool` must not be freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dora_zenoh_pool_returned(pool: *mut Pool) -> u64 {
    let mut number = 0;
    quiet(|| {
        number = unsafe { &*pool }.returned.next();
    });
    number
}

/// Room for a payload of `length` bytes in a pool, to be filled and sent, or taken anew. It is
/// null if the pool has no room, or `most` payloads are with readers already. One caller at a
/// time per pool.
///
/// # Safety
/// `pool` must not be freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dora_zenoh_pool_take(pool: *mut Pool, length: usize, most: usize) -> *mut u8 {
    let mut room = null_mut();
    quiet(|| {
        let pool = unsafe { &mut *pool };
        if let Some(length) = NonZeroUsize::new(length)
            && let Some(mut taken) = pool.take(length, most)
            && taken.len() == length.get()
        {
            room = taken.as_mut_ptr();
            pool.taken = Some(taken);
        }
    });
    room
}

/// Sends what was taken last from a pool; returns 0, or -1 with an error. One caller at a time
/// per pool.
///
/// # Safety
/// `publisher` and `pool` must not be freed; pointers must be valid for their lengths.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dora_zenoh_put_taken(
    publisher: *const Publisher,
    pool: *mut Pool,
    attachment: *const u8,
    attachment_length: usize,
    error: *mut c_char,
    capacity: usize,
) -> c_int {
    guard(error, capacity, -1, || {
        let attachment = unsafe { bytes(attachment, attachment_length) };
        let pool = unsafe { &mut *pool };
        let room = pool.taken.take().ok_or("nothing was taken from the pool")?;
        pool.send(unsafe { &*publisher }, room, None, true, attachment)?;
        Ok(0)
    })
}

/// Where a payload is that lies in memory of others, which peers find by name.
#[repr(C)]
pub struct Place {
    /// The file is called like this number, as Zenoh's own are.
    segment: SegmentID,
    /// Where in the file the payload begins.
    offset: u32,
    /// The same place in this process. It is not read here unless the peer has no shared memory.
    start: *mut u8,
    length: usize,
}

/// Sends a payload that lies in memory of others; returns 0, or -1 with an error. If it is to
/// `count`, `number` becomes its number among those that the pool sent, which
/// `dora_zenoh_pool_returned` tells when no reader holds it any more: until then, or until the
/// pool is freed, it must stay as it is. Else it becomes 0. One caller at a time per pool.
///
/// # Safety
/// `publisher` and `pool` must not be freed; pointers must be valid for their lengths.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dora_zenoh_put_outside(
    publisher: *const Publisher,
    pool: *mut Pool,
    place: *const Place,
    count: c_int,
    attachment: *const u8,
    attachment_length: usize,
    number: *mut u64,
    error: *mut c_char,
    capacity: usize,
) -> c_int {
    guard(error, capacity, -1, || {
        let attachment = unsafe { bytes(attachment, attachment_length) };
        let (pool, place) = unsafe { (&mut *pool, &*place) };
        let chunk = ChunkDescriptor::new(place.segment, place.offset, place.length.try_into()?);
        let buffer = outside::map(&pool.outside, &chunk, place.start)?;
        let sent = pool.send(unsafe { &*publisher }, buffer, Some(chunk), count != 0, attachment)?;
        unsafe { *number = sent };
        Ok(0)
    })
}

impl Pool {
    /// Takes back what no reader holds any more. The last one of the pool's own is kept at
    /// hand: it is still in the processor's caches.
    fn reclaim(&mut self) {
        let mut kept = Vec::with_capacity(self.lent.len() + 1);
        let mut outside = false;
        for lent in self.lent.drain(..) {
            outside |= lent.outside;
            match ZShmMut::try_from(lent.buffer) {
                Ok(mine) => {
                    if !lent.outside {
                        self.free = Some(mine);
                    }
                    self.back = self.back.max(lent.number);
                }
                Err(buffer) if buffer.is_valid() => kept.push(Lent { buffer, ..lent }),
                Err(_) => {}
            }
        }
        self.lent = kept;
        if outside || self.returned.awaited() {
            self.outside.garbage_collect(); // tells `returned`
        }
    }

    /// Memory for a payload.
    fn take(&mut self, length: NonZeroUsize, most: usize) -> Option<ZShmMut> {
        self.taken = None;
        self.reclaim();
        if self.lent.len() >= most {
            return None;
        }
        match self.free.take() {
            Some(free) if free.len() == length.get() => Some(free),
            _ => self.provider.alloc(length.get()).with_policy::<GarbageCollect>().wait().ok(),
        }
    }

    /// Sends a payload and keeps it until its readers let it go.
    fn send(&mut self, to: &Publisher, buffer: ZShmMut, outside: Option<ChunkDescriptor>, count: bool, attachment: &[u8]) -> Result<u64, Failure> {
        let buffer = ZShm::from(buffer);
        let mut number = 0;
        if count {
            self.sent += 1;
            number = self.sent;
        }
        self.lent.push(Lent { number, outside: outside.is_some(), buffer: buffer.clone() });
        if let Some(chunk) = outside
            && count
        {
            self.returned.expect(chunk, number);
        }
        to.0.put(buffer).attachment(attachment).wait()?;
        Ok(number)
    }
}

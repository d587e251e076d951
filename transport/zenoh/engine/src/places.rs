//! Which files the shared memory of peers is in, so that others can map it too.

use std::fs::File;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, RwLock};

use zenoh::Result;
use zenoh::shm::{PosixShmClient, ProtocolID, SegmentID, ShmClient, ShmSegment, WithProtocolID};

/// Where POSIX shared memory is found as files, on systems that show it.
const FOLDER: &str = "/dev/shm";

/// The segments that one session has mapped. They stay mapped as long as the session is.
#[derive(Debug, Default)]
pub struct Places(RwLock<Vec<Place>>);

#[derive(Debug)]
struct Place {
    start: usize,
    length: usize,
    file: File,
}

impl Places {
    /// The number of the segment in which these bytes are, from 1 on, and where in it; 0 for
    /// none.
    pub fn find(&self, bytes: &[u8]) -> (usize, usize) {
        let start = bytes.as_ptr() as usize;
        let Ok(places) = self.0.read() else {
            return (0, 0);
        };
        let holds = |p: &Place| start >= p.start && start - p.start <= p.length && bytes.len() <= p.length - (start - p.start);
        places.iter().position(holds).map_or((0, 0), |i| (i + 1, start - places[i].start))
    }

    /// The file of a segment and its size in bytes.
    pub fn file(&self, segment: usize) -> Option<(RawFd, usize)> {
        let places = self.0.read().ok()?;
        let place = places.get(segment.checked_sub(1)?)?;
        Some((place.file.as_raw_fd(), place.length))
    }

    fn add(&self, start: *mut u8, segment: SegmentID) -> Option<()> {
        let file = File::open(format!("{FOLDER}/{segment}.zenoh")).ok()?;
        let length = file.metadata().ok()?.len() as usize;
        self.0.write().ok()?.push(Place { start: start as usize, length, file });
        Some(())
    }
}

/// Zenoh's own client for POSIX shared memory, which notes what it maps.
#[derive(Debug)]
pub struct Client(pub Arc<Places>);

impl WithProtocolID for Client {
    fn id(&self) -> ProtocolID {
        PosixShmClient.id()
    }
}

impl ShmClient for Client {
    fn attach(&self, segment: SegmentID) -> Result<Arc<dyn ShmSegment>> {
        let mapped = PosixShmClient.attach(segment)?;
        // Without a place its messages are copied, which is slower.
        self.0.add(mapped.map(0)?, segment);
        Ok(mapped)
    }
}

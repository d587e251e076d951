//! Memory that others have made, in files which peers find by name as they find Zenoh's own.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use zenoh::shm::{
    AllocatedChunk, ChunkAllocResult, ChunkDescriptor, MemoryLayout, PosixShmClient, ProtocolID, PtrInSegment, ShmProvider,
    ShmProviderBackend, WithProtocolID, ZAllocError, ZLayoutError, ZShmMut,
};

use crate::border::Failure;

/// Which payloads are with readers, and which of these came back.
#[derive(Debug, Default)]
pub struct Returned(Mutex<Numbers>);

#[derive(Debug, Default)]
struct Numbers {
    out: Vec<(ChunkDescriptor, u64)>,
    back: VecDeque<u64>,
}

impl Returned {
    pub fn expect(&self, chunk: ChunkDescriptor, number: u64) {
        if let Ok(mut numbers) = self.0.lock() {
            numbers.out.push((chunk, number));
        }
    }

    /// Says whether payloads are with readers.
    pub fn awaited(&self) -> bool {
        self.0.lock().is_ok_and(|numbers| !numbers.out.is_empty())
    }

    /// The number of one that came back, each once; 0 for none.
    pub fn next(&self) -> u64 {
        self.0.lock().ok().and_then(|mut numbers| numbers.back.pop_front()).unwrap_or(0)
    }
}

/// Hands out nothing by itself. Zenoh calls `free` when the last reader is done with a payload.
#[derive(Debug)]
pub struct Outside(pub Arc<Returned>);

impl WithProtocolID for Outside {
    fn id(&self) -> ProtocolID {
        PosixShmClient.id()
    }
}

impl ShmProviderBackend for Outside {
    fn alloc(&self, _: &MemoryLayout) -> ChunkAllocResult {
        Err(ZAllocError::OutOfMemory)
    }

    fn free(&self, chunk: &ChunkDescriptor) {
        if let Ok(mut numbers) = self.0.0.lock()
            && let Some(i) = numbers.out.iter().position(|(out, _)| out == chunk)
        {
            let (_, number) = numbers.out.remove(i);
            numbers.back.push_back(number);
        }
    }

    fn defragment(&self) -> usize {
        0
    }

    fn available(&self) -> usize {
        0
    }

    fn layout_for(&self, layout: MemoryLayout) -> Result<MemoryLayout, ZLayoutError> {
        Ok(layout)
    }
}

/// A buffer of Zenoh for a payload; `start` is where it is in this process.
pub fn map(provider: &ShmProvider<Outside>, chunk: &ChunkDescriptor, start: *mut u8) -> Result<ZShmMut, Failure> {
    let data = PtrInSegment::new(start, Arc::new(()));
    let length = chunk.len.get();
    provider
        .map(AllocatedChunk::new(chunk.clone(), data), length)
        .map_err(|e| format!("no room to note a payload: {e:?}").into())
}

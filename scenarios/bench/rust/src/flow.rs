//! The node of the real dora that messages flow through. BENCH_ROLE says what it does:
//!
//! - `send`: sends on `data`, one message every BENCH_EVERY_US, BENCH_COUNT of them; with 0
//!   as fast as it can, for BENCH_MILLIS. With an input `ack` one at a time. It leaves the
//!   times right before each send.
//! - `receive`: leaves when each message arrived; with BENCH_EVERY_US=0 how many arrived in
//!   which time, after BENCH_WARM_MILLIS. It reads every cache line.
//! - `ping`, `echo`: round trips, the answer has 8 bytes.
//! - `idle`: stays connected for BENCH_MILLIS without sending.
//!
//! What it leaves is `<node id>.json` in BENCH_OUT. Times are nanoseconds of CLOCK_MONOTONIC.
//! A payload of n bytes begins and ends with the number of the message; between them the
//! 8-byte word i is i * SPREAD. BENCH_HOW=loan builds it in dora's own memory,
//! BENCH_HOW=ends writes its ends there alone.
use std::{env, fs, path::Path, thread, time::Duration};

use dora_node_api::{
    DoraNode, Event, EventStream, MetadataParameters, dora_core::config::DataId, serde_json,
};
use eyre::{OptionExt, WrapErr, bail, ensure};

/// An odd number with about as many ones as zeros: the golden ratio times 2^64.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// How long an acknowledgement or answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

fn now() -> i64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is valid for writing; CLOCK_MONOTONIC always exists on Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut t) };
    t.tv_sec * 1_000_000_000 + t.tv_nsec
}

fn number(name: &str) -> eyre::Result<i64> {
    let text = env::var(name).wrap_err_with(|| name.to_string())?;
    text.parse().wrap_err_with(|| format!("{name}={text}"))
}

fn fill(data: &mut [u8]) {
    for (i, word) in data.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&(i as u64).wrapping_mul(SPREAD).to_le_bytes());
    }
}

fn stamp(data: &mut [u8], seq: u64) {
    let n = data.len();
    data[..8].copy_from_slice(&seq.to_le_bytes());
    data[n - 8..].copy_from_slice(&seq.to_le_bytes());
}

fn word(data: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(data[at..at + 8].try_into().unwrap_or_default())
}

/// The number of the message, if it is whole: both ends, and one word of each cache line.
fn whole(data: &[u8], size: usize) -> Option<u64> {
    if data.len() != size {
        return None;
    }
    let seq = word(data, 0);
    let mut sum = 0u64;
    for line in data[..size / 64 * 64].chunks_exact(64).skip(1) {
        sum = sum.wrapping_add(word(line, 0));
    }
    let lines = (size / 64) as u64;
    let wanted = (lines * lines.saturating_sub(1) / 2 * 8).wrapping_mul(SPREAD);
    (sum == wanted && word(data, size - 8) == seq).then_some(seq)
}

struct Bench {
    node: DoraNode,
    events: EventStream,
    out: DataId,
    size: usize,
    loan: bool,
    ends: bool,
    own: Vec<u8>,
}

impl Bench {
    /// Sends message `seq` and returns the time right before.
    fn send(&mut self, seq: u64) -> eyre::Result<i64> {
        let none = MetadataParameters::default();
        if self.loan {
            let (mut t0, ends) = (0, self.ends);
            self.node.send_output_raw(self.out.clone(), none, self.size, |data| {
                if !ends {
                    fill(data);
                }
                stamp(data, seq);
                t0 = now();
            })?;
            return Ok(t0);
        }
        stamp(&mut self.own, seq);
        let t0 = now();
        self.node.send_output_bytes(self.out.clone(), none, self.size, &self.own)?;
        Ok(t0)
    }

    fn answer(&mut self, seq: u64) -> eyre::Result<()> {
        let none = MetadataParameters::default();
        self.node.send_output_bytes(self.out.clone(), none, 8, &seq.to_le_bytes())?;
        Ok(())
    }

    /// Waits for the 8 bytes that say `seq`.
    fn wait_for(&mut self, seq: u64) -> eyre::Result<()> {
        loop {
            match self.events.recv_timeout(PATIENCE).ok_or_eyre("the events ended")? {
                Event::Input { data, .. } => {
                    let bytes: &[u8] = (&data).try_into()?;
                    if whole(bytes, 8) == Some(seq) {
                        return Ok(());
                    }
                }
                Event::Error(e) => bail!("waiting for the answer to {seq}: {e}"),
                Event::Stop(_) => bail!("stopped while waiting for the answer to {seq}"),
                _ => {}
            }
        }
    }

    fn paced(&mut self, acked: bool) -> eyre::Result<serde_json::Value> {
        let (every, count) = (number("BENCH_EVERY_US")? * 1000, number("BENCH_COUNT")? as u64);
        let mut sent = Vec::new();
        let mut next = now();
        for seq in 0..count {
            next = (next + every).max(now());
            thread::sleep(Duration::from_nanos((next - now()).max(0) as u64));
            sent.push(self.send(seq)?);
            if acked {
                self.wait_for(seq)?;
            }
        }
        // The last message must not race the end of this process.
        thread::sleep(Duration::from_millis(50));
        Ok(serde_json::json!({"t0": sent}))
    }

    fn flood(&mut self) -> eyre::Result<serde_json::Value> {
        let end = now() + number("BENCH_MILLIS")? * 1_000_000;
        let mut seq = 0;
        while now() < end {
            self.send(seq)?;
            seq += 1;
        }
        thread::sleep(Duration::from_millis(50));
        Ok(serde_json::json!({"sent": seq}))
    }

    fn ping(&mut self) -> eyre::Result<serde_json::Value> {
        let mut values = Vec::new();
        for seq in 0..number("BENCH_COUNT")? as u64 {
            let t0 = self.send(seq)?;
            self.wait_for(seq)?;
            values.push(now() - t0);
        }
        Ok(serde_json::json!({"rtt": values}))
    }

    fn echo(&mut self) -> eyre::Result<serde_json::Value> {
        let mut damaged = 0;
        while let Some(event) = self.events.recv() {
            let Event::Input { data, .. } = event else { continue };
            let bytes: &[u8] = (&data).try_into()?;
            if bytes.len() != self.size || word(bytes, 0) != word(bytes, self.size - 8) {
                damaged += 1;
            }
            self.answer(word(bytes, 0))?;
        }
        Ok(serde_json::json!({"damaged": damaged}))
    }

    fn each(&mut self, acked: bool) -> eyre::Result<serde_json::Value> {
        let (mut seqs, mut arrived, mut damaged) = (Vec::new(), Vec::new(), 0);
        while let Some(event) = self.events.recv() {
            let t1 = now();
            let Event::Input { data, .. } = event else { continue };
            let bytes: &[u8] = (&data).try_into()?;
            match whole(bytes, self.size) {
                Some(seq) => {
                    seqs.push(seq);
                    arrived.push(t1);
                    drop(data);
                    if acked {
                        self.answer(seq)?;
                    }
                }
                None => damaged += 1,
            }
        }
        Ok(serde_json::json!({"seq": seqs, "t1": arrived, "damaged": damaged}))
    }

    fn stream(&mut self) -> eyre::Result<serde_json::Value> {
        let warm = number("BENCH_WARM_MILLIS")? * 1_000_000;
        let (mut begin, mut first, mut last, mut messages) = (0, 0, 0, 0u64);
        let (mut next, mut lost, mut damaged) = (0, 0u64, 0);
        while let Some(event) = self.events.recv() {
            let Event::Input { data, .. } = event else { continue };
            let bytes: &[u8] = (&data).try_into()?;
            let Some(seq) = whole(bytes, self.size) else {
                damaged += 1;
                continue;
            };
            let t = now();
            if begin == 0 {
                begin = t;
            }
            if t - begin >= warm {
                if first == 0 {
                    first = t;
                } else {
                    messages += 1;
                    lost += seq.saturating_sub(next);
                }
                last = t;
            }
            next = seq + 1;
        }
        Ok(serde_json::json!({"messages": messages, "nanoseconds": last - first, "lost": lost, "damaged": damaged}))
    }
}

fn main() -> eyre::Result<()> {
    let role = env::var("BENCH_ROLE").wrap_err("BENCH_ROLE")?;
    let dir = env::var("BENCH_OUT").wrap_err("BENCH_OUT")?;
    let size = number("BENCH_BYTES")? as usize;
    ensure!(size >= 8 && size % 8 == 0, "BENCH_BYTES={size}: a multiple of 8");
    let mut own = vec![0; size];
    fill(&mut own);
    let (node, events) = DoraNode::init_from_env()?;
    let out = if role == "echo" || role == "receive" { "pong" } else { "data" };
    let how = env::var("BENCH_HOW").unwrap_or_default();
    let (loan, ends) = (how == "loan" || how == "ends", how == "ends");
    let acked = env::var("BENCH_ACKED").is_ok_and(|acked| acked == "1");
    let file = format!("{}.json", node.id());
    let mut bench = Bench { node, events, out: DataId::from(out.to_owned()), size, loan, ends, own };
    let paced = number("BENCH_EVERY_US")? > 0;
    let result = match role.as_str() {
        "send" if paced => bench.paced(acked)?,
        "send" => bench.flood()?,
        "receive" if paced => bench.each(acked)?,
        "receive" => bench.stream()?,
        "ping" => bench.ping()?,
        "echo" => bench.echo()?,
        "idle" => {
            thread::sleep(Duration::from_millis(number("BENCH_MILLIS")? as u64));
            serde_json::json!({})
        }
        _ => bail!("BENCH_ROLE={role}"),
    };
    let path = Path::new(&dir).join(&file);
    let partial = Path::new(&dir).join(format!("{file}.partial"));
    fs::write(&partial, serde_json::to_vec(&result)?)?;
    fs::rename(&partial, &path)?;
    Ok(())
}

//! Round trips through iceoryx2 between two processes: iceoryx-bench-peer MODE BYTES COUNT
//!
//! MODE `event`: both sides sleep until they are notified; `poll`: both look all the time.
//! The payload is copied from this process's own memory into shared memory, as the others
//! in the benchmark do; the answer has 8 bytes. It prints half of each round trip in
//! nanoseconds, one per line.
use std::env;
use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use iceoryx2::config::Config;
use iceoryx2::port::{
    listener::Listener, notifier::Notifier, publisher::Publisher, subscriber::Subscriber,
};
use iceoryx2::prelude::*;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

type Failure = Box<dyn Error>;

/// One direction: a service for the payloads and one for the events.
struct Names {
    data: ServiceName,
    event: ServiceName,
}

impl Names {
    fn new(run: &str, direction: &str) -> Result<Self, Failure> {
        Ok(Names {
            data: format!("dora-bench/{run}/{direction}/data").as_str().try_into()?,
            event: format!("dora-bench/{run}/{direction}/event").as_str().try_into()?,
        })
    }
}

struct Sending {
    data: Publisher<ipc::Service, [u8], ()>,
    event: Notifier<ipc::Service>,
    sleeping: bool,
}

impl Sending {
    fn new(node: &Node<ipc::Service>, names: &Names, size: usize, sleeping: bool) -> Result<Self, Failure> {
        let data = node.service_builder(&names.data).publish_subscribe::<[u8]>().open_or_create()?;
        let event = node.service_builder(&names.event).event().open_or_create()?;
        Ok(Sending {
            data: data.publisher_builder().initial_max_slice_len(size).create()?,
            event: event.notifier_builder().create()?,
            sleeping,
        })
    }

    fn send(&self, payload: &[u8]) -> Result<(), Failure> {
        let sample = self.data.loan_slice_uninit(payload.len())?;
        sample.write_from_slice(payload).send()?;
        if self.sleeping {
            self.event.notify()?;
        }
        Ok(())
    }
}

struct Receiving {
    data: Subscriber<ipc::Service, [u8], ()>,
    event: Listener<ipc::Service>,
    sleeping: bool,
}

impl Receiving {
    fn new(node: &Node<ipc::Service>, names: &Names, sleeping: bool) -> Result<Self, Failure> {
        let data = node.service_builder(&names.data).publish_subscribe::<[u8]>().open_or_create()?;
        let event = node.service_builder(&names.event).event().open_or_create()?;
        Ok(Receiving {
            data: data.subscriber_builder().create()?,
            event: event.listener_builder().create()?,
            sleeping,
        })
    }

    /// The first 8 bytes of the next message, or nothing if none comes.
    fn receive(&self, size: usize) -> Result<Option<u64>, Failure> {
        let end = Instant::now() + PATIENCE;
        loop {
            for _ in 0..1000 {
                if let Some(sample) = self.data.receive()? {
                    let data = sample.payload();
                    if data.len() != size || data[..8] != data[size - 8..] {
                        return Err("a message arrived damaged".into());
                    }
                    return Ok(Some(u64::from_le_bytes(data[..8].try_into()?)));
                }
                if self.sleeping {
                    break;
                }
                std::hint::spin_loop();
            }
            if Instant::now() > end {
                return Ok(None);
            }
            if self.sleeping {
                self.event.timed_wait(|_| {}, PATIENCE)?;
            }
        }
    }
}

/// What the files of one run begin with, wherever iceoryx2 puts them.
fn prefix(run: &str) -> String {
    format!("dora-bench-{run}-")
}

fn folder(run: &str) -> PathBuf {
    env::temp_dir().join(format!("iceoryx-{run}"))
}

fn open(run: &str, here: &str, there: &str, size: usize, sleeping: bool) -> Result<(Sending, Receiving), Failure> {
    let mut config = Config::default();
    config.global.prefix = FileName::new(prefix(run).as_bytes()).map_err(|e| format!("{e:?}"))?;
    let folder = folder(run).display().to_string();
    config.global.set_root_path(&Path::new(folder.as_bytes()).map_err(|e| format!("{e:?}"))?);
    let node = NodeBuilder::new().config(&config).create::<ipc::Service>()?;
    Ok((
        Sending::new(&node, &Names::new(run, here)?, size, sleeping)?,
        Receiving::new(&node, &Names::new(run, there)?, sleeping)?,
    ))
}

/// Answers until the message u64::MAX.
fn echo(run: &str, size: usize, sleeping: bool) -> Result<(), Failure> {
    let (sending, receiving) = open(run, "pong", "ping", 8, sleeping)?;
    sending.send(&0u64.to_le_bytes())?; // ready
    while let Some(seq) = receiving.receive(size)? {
        if seq == u64::MAX {
            return Ok(());
        }
        sending.send(&seq.to_le_bytes())?;
    }
    Err("no message came".into())
}

/// Removes what iceoryx2 keeps when its last process ends.
fn clean(run: &str) -> std::io::Result<()> {
    for entry in fs::read_dir("/dev/shm")? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix(run)) {
            fs::remove_file(entry.path())?;
        }
    }
    if folder(run).exists() {
        fs::remove_dir_all(folder(run))?;
    }
    Ok(())
}

fn ping(mode: &str, size: usize, count: u64, sleeping: bool) -> Result<(), Failure> {
    let run = std::process::id().to_string();
    let values = measure(&run, mode, size, count, sleeping);
    clean(&run)?;
    let text: Vec<String> = values?.iter().map(u128::to_string).collect();
    println!("{}", text.join("\n"));
    Ok(())
}

/// Half of each round trip, in nanoseconds.
fn measure(run: &str, mode: &str, size: usize, count: u64, sleeping: bool) -> Result<Vec<u128>, Failure> {
    let (sending, receiving) = open(run, "ping", "pong", size, sleeping)?;
    let mut child = Command::new(env::current_exe()?)
        .args([mode, &size.to_string(), &count.to_string(), run])
        .stdout(Stdio::null())
        .spawn()?;
    let mut payload = vec![1u8; size];
    let result = (|| {
        receiving.receive(8)?.ok_or("the other side does not start")?;
        let mut values = Vec::with_capacity(count as usize);
        for seq in 1..=count {
            payload[..8].copy_from_slice(&seq.to_le_bytes());
            payload[size - 8..].copy_from_slice(&seq.to_le_bytes());
            let begin = Instant::now();
            sending.send(&payload)?;
            if receiving.receive(8)? != Some(seq) {
                return Err("a wrong answer, or none".into());
            }
            values.push(begin.elapsed().as_nanos() / 2);
        }
        payload[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        payload[size - 8..].copy_from_slice(&u64::MAX.to_le_bytes());
        sending.send(&payload)?;
        Ok::<_, Failure>(values)
    })();
    if result.is_err() {
        let _ = child.kill();
    }
    if !child.wait()?.success() && result.is_ok() {
        return Err("the other side failed".into());
    }
    result
}

fn run() -> Result<(), Failure> {
    set_log_level(LogLevel::Error);
    let args: Vec<String> = env::args().collect();
    if args.len() < 4 || !["event", "poll"].contains(&args[1].as_str()) {
        return Err("usage: iceoryx-bench-peer event|poll BYTES COUNT".into());
    }
    let (size, count, sleeping) = (args[2].parse::<usize>()?, args[3].parse()?, args[1] == "event");
    if size < 8 {
        return Err("BYTES: at least 8".into());
    }
    match args.get(4) {
        Some(run) => echo(run, size, sleeping),
        None => ping(&args[1], size, count, sleeping),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("iceoryx-bench-peer: {e}");
            ExitCode::FAILURE
        }
    }
}

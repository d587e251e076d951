//! A node that registers and exits at once. Before it exits it leaves a file named after
//! its node id in BENCH_OUT, so that the benchmark knows that it was really there.
use dora_node_api::DoraNode;
use eyre::WrapErr;

fn main() -> eyre::Result<()> {
    let out = std::env::var("BENCH_OUT").wrap_err("BENCH_OUT is not set")?;
    let (node, events) = DoraNode::init_from_env()?;
    let mark = std::path::Path::new(&out).join(node.id().to_string());
    std::fs::write(&mark, b"registered\n").wrap_err_with(|| format!("mark {}", mark.display()))?;
    drop(events);
    drop(node);
    Ok(())
}

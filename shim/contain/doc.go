// Package contain ends processes: everything below this process, everything in a cgroup,
// everything that carries a mark in its environment, a whole process group; and removes
// the shared-memory files that dead nodes left.
//
// What it guarantees:
//
//   - A process is killed only if it is known to be ours at that moment: a child that was
//     not reaped yet, a member of our cgroup, or a process whose environment names our
//     mark and which is held by a pidfd while that is checked. A recycled pid is never hit.
//   - A shared-memory file is removed only if one of our nodes had it mapped and nobody
//     holds its lock any more (every Zenoh process holds its segments locked shared).
//
// It works on Linux; elsewhere process groups are what there is. Start reading at
// KillChildren.
package contain

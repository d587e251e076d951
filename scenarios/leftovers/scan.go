package leftovers

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// process is one line of the process table.
type process struct {
	pid, parent int
	zombie      bool
}

// processes reads the process table.
func processes() []process {
	entries, _ := os.ReadDir("/proc")
	var all []process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
		if err != nil {
			continue // it ended meanwhile
		}
		// The name in parentheses may hold anything, so look behind the last one.
		rest := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(rest) < 2 {
			continue
		}
		parent, _ := strconv.Atoi(rest[1])
		all = append(all, process{pid: pid, parent: parent, zombie: rest[0] == "Z" || rest[0] == "X"})
	}
	return all
}

// descendants of pid, itself not included.
func descendants(all []process, pid int) []process {
	children := map[int][]process{}
	for _, p := range all {
		children[p.parent] = append(children[p.parent], p)
	}
	var out []process
	for todo := []int{pid}; len(todo) > 0; {
		for _, p := range children[todo[0]] {
			out = append(out, p)
			todo = append(todo, p.pid)
		}
		todo = todo[1:]
	}
	return out
}

// mark is the value of DORA_TEST_MARK in the process's environment.
func (p process) mark() string {
	env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", p.pid))
	for kv := range bytes.SplitSeq(env, []byte{0}) {
		if v, ok := bytes.CutPrefix(kv, []byte(markVariable+"=")); ok {
			return string(v)
		}
	}
	return ""
}

// args are the program's name and its arguments.
func (p process) args() []string {
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid))
	return strings.Split(strings.TrimRight(string(raw), "\x00"), "\x00")
}

func (p process) String() string {
	return fmt.Sprintf("%d (parent %d): %s", p.pid, p.parent, strings.Join(p.args(), " "))
}

// listening are the TCP ports that somebody listens on, as "address inode".
func listening() map[string]bool {
	ports := map[string]bool{}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		data, _ := os.ReadFile(table)
		for line := range strings.Lines(string(data)) {
			const listen = "0A"
			fields := strings.Fields(line)
			if len(fields) < 10 || fields[3] != listen {
				continue
			}
			host, hex, _ := strings.Cut(fields[1], ":")
			port, err := strconv.ParseUint(hex, 16, 16)
			if err != nil {
				continue
			}
			ports[fmt.Sprintf("%s:%d %s", host, port, fields[9])] = true
		}
	}
	return ports
}

// socketInodes of the sockets that a process has open.
func socketInodes(pid int) map[string]bool {
	inodes := map[string]bool{}
	for _, target := range links(pid) {
		if s, ok := strings.CutPrefix(target, "socket:["); ok {
			inodes[strings.TrimSuffix(s, "]")] = true
		}
	}
	return inodes
}

// memoryFiles are the names of a process's memory files, with their descriptors.
func memoryFiles(pid int) map[string]bool {
	names := map[string]bool{}
	for fd, target := range links(pid) {
		if strings.HasPrefix(target, "/memfd:") {
			names[target+" (descriptor "+fd+")"] = true
		}
	}
	return names
}

// links are the open files of a process by descriptor.
func links(pid int) map[string]string {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, _ := os.ReadDir(dir)
	out := make(map[string]string, len(entries))
	for _, e := range entries {
		if target, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
			out[e.Name()] = target
		}
	}
	return out
}

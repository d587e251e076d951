package contain

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"time"
)

// CreateCgroup makes a cgroup (version 2) of a fresh name, dora-<digits>, below this process's own, if
// this user may and the kernel can kill it as one (5.14). An error is an ordinary answer:
// nothing was delegated to us.
func CreateCgroup() (string, error) {
	own, err := OwnCgroup()
	if err != nil {
		return "", err
	}
	sweepCgroups(own, strayAfter)
	dir, err := os.MkdirTemp(own, cgroupPrefix)
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(dir + "/cgroup.kill"); err != nil {
		os.Remove(dir)
		return "", err
	}
	return dir, nil
}

// cgroupPrefix begins the names of our cgroups; digits follow (a unit of systemd may well be
// called dora-something).
const cgroupPrefix = "dora-"

// strayAfter is the age from which an empty cgroup of ours is nobody's: whoever makes one puts
// a process into it at once.
const strayAfter = 10 * time.Second

// SweepCgroups removes the empty cgroups that were left below this process's own: those of
// shims that were killed in one instant with their guards, by somebody who never came back to
// their folder. A machine that runs for months would collect them.
func SweepCgroups() {
	if own, err := OwnCgroup(); err == nil {
		sweepCgroups(own, strayAfter)
	}
}

func sweepCgroups(own string, age time.Duration) {
	entries, err := os.ReadDir(own)
	if err != nil {
		return
	}
	for _, e := range entries {
		digits, ours := strings.CutPrefix(e.Name(), cgroupPrefix)
		if !ours || digits == "" || strings.Trim(digits, "0123456789") != "" {
			continue
		}
		if info, err := e.Info(); err != nil || time.Since(info.ModTime()) < age {
			continue
		}
		_ = RemoveCgroup(own+"/"+e.Name(), 0) // refused while anything is in it
	}
}

// OwnCgroup is the folder of this process's cgroup in the unified hierarchy.
func OwnCgroup() (string, error) {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	rel, ok := "", false
	for line := range strings.Lines(string(b)) {
		if p, found := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); found {
			rel, ok = p, true
		}
	}
	if !ok || strings.HasPrefix(rel, "/..") {
		return "", errors.New("this process has no cgroup of version 2 in reach")
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	// mountinfo: id parent major:minor root mountpoint options... - type source super
	for line := range strings.Lines(string(mounts)) {
		before, after, ok := strings.Cut(line, " - ")
		if !ok || !strings.HasPrefix(after, "cgroup2 ") {
			continue
		}
		fields := strings.Fields(before)
		if len(fields) < 5 {
			continue
		}
		if below, ok := strings.CutPrefix(rel, strings.TrimSuffix(fields[3], "/")); ok {
			return strings.TrimSuffix(unescape(fields[4])+below, "/"), nil
		}
	}
	return "", errors.New("cgroup version 2 is not mounted")
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	for _, e := range [][2]string{{`\040`, " "}, {`\011`, "\t"}, {`\012`, "\n"}, {`\134`, `\`}} {
		s = strings.ReplaceAll(s, e[0], e[1])
	}
	return s
}

// KillCgroup kills everything in a cgroup made by CreateCgroup and removes it. It waits at
// most limit for the processes to be gone.
func KillCgroup(dir string, limit time.Duration) error {
	if dir == "" || !strings.Contains(dir, "/dora-") {
		return nil
	}
	if err := os.WriteFile(dir+"/cgroup.kill", []byte("1"), 0); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	return RemoveCgroup(dir, limit)
}

// RemoveCgroup removes a cgroup once nothing lives in it, waiting at most limit. Groups
// that a node made inside it are removed too.
func RemoveCgroup(dir string, limit time.Duration) error {
	if dir == "" {
		return nil
	}
	start := time.Now()
	for {
		events, err := os.ReadFile(dir + "/cgroup.events")
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err == nil && bytes.Contains(events, []byte("populated 0")) {
			if err = removeTree(dir); err == nil {
				return nil
			}
		}
		if time.Since(start) > limit {
			return &os.PathError{Op: "empty cgroup", Path: dir, Err: os.ErrDeadlineExceeded}
		}
		time.Sleep(time.Millisecond)
	}
}

// LeaveCgroup moves this process out of a cgroup made by CreateCgroup, to the one above,
// and removes it as soon as those that were killed in it are gone. Only the last process in it
// needs to: others remove it from outside.
func LeaveCgroup(dir string) error {
	if dir == "" {
		return nil
	}
	above := dir[:strings.LastIndexByte(dir, '/')+1] + "cgroup.procs"
	if err := os.WriteFile(above, []byte("0"), 0); err != nil {
		return err
	}
	return RemoveCgroup(dir, time.Second)
}

// removeTree removes a cgroup and those below it; their files cannot be removed one by
// one.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(dir + "/" + e.Name()); err != nil {
				return err
			}
		}
	}
	return os.Remove(dir)
}

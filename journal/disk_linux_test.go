package journal_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/journal"
	"github.com/dora-go/dora/journal/journaltest"
)

func init() {
	children["full disk"] = fullDiskChild
	for name, step := range fullDiskSteps {
		children[name] = step
	}
}

// TestFullDisk fills a small disk. It is a tmpfs in a mount namespace of a child, so that
// nothing of it remains. Without the right to mount, the child gets a user namespace; if
// that is forbidden too, the test fails rather than skips.
func TestFullDisk(t *testing.T) {
	for _, kind := range []string{"file", "badger"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(self)
			cmd.Env = append(os.Environ(), childKey+"=full disk", "DISK_KIND="+kind, "DISK_DIR="+t.TempDir())
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
			if os.Getuid() != 0 {
				cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
				cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
				cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
			}
			out, err := cmd.CombinedOutput()
			t.Logf("%s", out)
			if err != nil {
				t.Errorf("%v", err)
			}
		})
	}
}

const diskBytes = 128 << 20

// diskOptions leave a distance between the reserve and Badger's floor of 32 MiB.
var diskOptions = journal.OpenOptions{Reserve: 48 << 20, Ballast: 16 << 20}

// fullDiskChild mounts the disk and runs the steps, each a process of its own: a step
// that dies of a signal is seen here.
func fullDiskChild() error {
	dir := os.Getenv("DISK_DIR")
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", diskBytes)); err != nil {
		return fmt.Errorf("mount a small disk: %w", err)
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for _, step := range []string{"fill the disk", "open on a full disk", "free the disk"} {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), childKey+"="+step)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w", step, err)
		}
	}
	return nil
}

var fullDiskSteps = map[string]func() error{
	"fill the disk":       fillDisk,
	"open on a full disk": openFull,
	"free the disk":       freeDisk,
}

func diskPath(name string) string { return filepath.Join(os.Getenv("DISK_DIR"), name) }

func openDisk() (*journal.Journal, error) {
	if os.Getenv("DISK_KIND") == "badger" {
		return journal.OpenBadger(diskPath("store"), diskOptions)
	}
	return journal.OpenFile(diskPath(journal.RunFileName), diskOptions)
}

func diskFree() int64 {
	var st unix.Statfs_t
	if err := unix.Statfs(os.Getenv("DISK_DIR"), &st); err != nil {
		panic(err)
	}
	return int64(st.Bavail) * int64(st.Bsize)
}

// fill writes zeros until only so much is free; 0: until the disk takes no more.
func fill(leave int64) error {
	f, err := os.OpenFile(diskPath("filler"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	block := make([]byte, 64<<10)
	for diskFree() > leave {
		if _, err := f.Write(block[:min(int64(len(block)), max(diskFree()-leave, 1))]); err != nil {
			if leave == 0 && errors.Is(err, unix.ENOSPC) {
				return nil
			}
			return err
		}
	}
	return nil
}

func ballastThere() bool {
	for _, name := range []string{"store/ballast", journal.RunFileName + ".ballast"} {
		if _, err := os.Stat(diskPath(name)); err == nil {
			return true
		}
	}
	return false
}

// bulky is an event of about 60 kB, so that a disk fills soon but tables stay in use.
func bulky(n uint64) events.Envelope {
	env := journaltest.Event(int(n))
	env.Data = append(fmt.Appendf(nil, `{"n":%d,"text":"`, n), bulkyText...)
	return env
}

var bulkyText = strings.Repeat("x", 60000) + `"}`

// appendUntilFull appends until the store refuses, which must be by ErrNoSpace, and
// returns the version then.
func appendUntilFull(st *journal.Journal, v uint64, urgent bool) (uint64, error) {
	for ; ; v++ {
		err := st.Append(testContext, journal.Append{
			Stream: "a", Expected: v, Events: []events.Envelope{bulky(v + 1)}, Options: journal.Options{Urgent: urgent},
		})
		if errors.Is(err, journal.ErrNoSpace) {
			fmt.Printf("refused after event %d (urgent %v), %.1f MiB free: %v\n", v, urgent, float64(diskFree())/(1<<20), err)
			return v, nil
		}
		if err != nil {
			return v, err
		}
	}
}

func wholeUpTo(st *journal.Journal, v uint64) error {
	if err := st.Verify(testContext); err != nil {
		return err
	}
	n := uint64(0)
	for env, err := range st.Read(testContext, "a", 0) {
		if err != nil {
			return err
		}
		if n++; string(env.Data) != string(bulky(n).Data) {
			return fmt.Errorf("event %d is another one", n)
		}
	}
	if n != v {
		return fmt.Errorf("%d events, %d were acknowledged", n, v)
	}
	return nil
}

func fillDisk() error {
	st, err := openDisk()
	if err != nil {
		return err
	}
	if !ballastThere() {
		return errors.New("there is no ballast")
	}
	if err := fill(diskOptions.Reserve + 24<<20); err != nil {
		return err
	}
	normal, err := appendUntilFull(st, 0, false)
	if err != nil {
		return err
	}
	if err := st.SaveSnapshot("a", normal, make([]byte, 1<<20)); !errors.Is(err, journal.ErrNoSpace) {
		return fmt.Errorf("a snapshot below the reserve: %v", err)
	}
	if normal < 100 || !ballastThere() {
		return fmt.Errorf("%d events above the reserve, ballast %v", normal, ballastThere())
	}
	if _, err := st.RaiseEpoch(); err != nil {
		return fmt.Errorf("an epoch below the reserve: %w", err)
	}
	urgent, err := appendUntilFull(st, normal, true)
	if err != nil {
		return err
	}
	if urgent < normal+300 || ballastThere() {
		return fmt.Errorf("%d urgent events, ballast %v", urgent-normal, ballastThere())
	}
	if err := fill(0); err != nil {
		return err
	}
	for range 3 {
		v, err := appendUntilFull(st, urgent, true)
		if err != nil || v != urgent {
			return fmt.Errorf("on a full disk %d events were taken: %w", v-urgent, err)
		}
	}
	if err := wholeUpTo(st, urgent); err != nil {
		return err
	}
	if err := st.Close(); err != nil {
		fmt.Printf("closed: %v\n", err)
	}
	// A symbolic link needs no space: the number is its target.
	return os.Symlink(fmt.Sprint(urgent), diskPath("acknowledged"))
}

func openFull() error {
	st, err := openDisk()
	if err != nil {
		fmt.Printf("opening: %v\n", err)
		if os.Getenv("DISK_KIND") == "badger" && errors.Is(err, journal.ErrNoSpace) {
			return nil
		}
		return err
	}
	defer st.Close()
	if os.Getenv("DISK_KIND") == "badger" {
		return fmt.Errorf("Badger was opened with %d bytes free", diskFree())
	}
	if r := st.Recovery(); r.Cut != 0 {
		return fmt.Errorf("a refused append left %d bytes behind", r.Cut)
	}
	if err := acknowledgedThere(st); err != nil {
		return err
	}
	if err := st.Close(); err != nil {
		return err
	}
	return halfWritten()
}

// halfWritten appends without a reserve to a disk that takes half of an event.
func halfWritten() error {
	filler, err := os.Stat(diskPath("filler"))
	if err != nil {
		return err
	}
	if err := os.Truncate(diskPath("filler"), filler.Size()-8<<10); err != nil {
		return err
	}
	st, err := journal.OpenFile(diskPath(journal.RunFileName), journal.OpenOptions{Reserve: -1})
	if err != nil {
		return err
	}
	defer st.Close()
	v, err := st.Version("a")
	if err != nil {
		return err
	}
	before, err := os.Stat(diskPath(journal.RunFileName))
	if err != nil {
		return err
	}
	again, err := appendUntilFull(st, v, false)
	after, serr := os.Stat(diskPath(journal.RunFileName))
	if err := errors.Join(err, serr); err != nil {
		return err
	}
	if again != v || after.Size() != before.Size() {
		return fmt.Errorf("%d events and %d bytes were written without space for one event", again-v, after.Size()-before.Size())
	}
	if err := st.Append(testContext, journal.Append{Stream: "b", Events: journaltest.Events(1, 1)}); err != nil {
		return fmt.Errorf("a small event, for which there is space: %w", err)
	}
	return acknowledgedThere(st)
}

func acknowledgedThere(st *journal.Journal) error {
	link, err := os.Readlink(diskPath("acknowledged"))
	if err != nil {
		return err
	}
	var v uint64
	if _, err := fmt.Sscan(link, &v); err != nil {
		return err
	}
	return wholeUpTo(st, v)
}

func freeDisk() error {
	if err := os.Remove(diskPath("filler")); err != nil {
		return err
	}
	st, err := openDisk()
	if err != nil {
		return err
	}
	defer st.Close()
	if err := acknowledgedThere(st); err != nil {
		return err
	}
	v, err := st.Version("a")
	if err != nil {
		return err
	}
	err = st.Append(testContext, journal.Append{Stream: "a", Expected: v, Events: []events.Envelope{bulky(v + 1)}, Options: journal.Options{Urgent: true}})
	if err != nil {
		return err
	}
	return wholeUpTo(st, v+1)
}

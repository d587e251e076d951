package shim

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/dora-go/dora/shim/folder"
)

// watchFolder stops the nodes when the shim's folder, or the lock in it, is removed or
// moved: nobody could find the shim any more.
func (s *Shim) watchFolder() {
	defer s.recovered("watch of the folder")
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		s.facts.warn("", 0, fmt.Sprintf("the shim cannot watch its folder (%v); if the folder is removed it will not notice", err))
		return
	}
	f := os.NewFile(uintptr(fd), "inotify")
	defer f.Close()
	const mask = unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_ONLYDIR
	if _, err := unix.InotifyAddWatch(fd, s.cfg.Dir, mask); err != nil {
		s.wind("its folder is gone")
		return
	}
	buf := make([]byte, 8<<10)
	for {
		n, err := f.Read(buf)
		if err != nil {
			return
		}
		if lostFolder(buf[:n]) {
			s.wind("its folder is gone")
			return
		}
	}
}

// lostFolder says whether the events tell of the folder's or the lock's end.
func lostFolder(events []byte) bool {
	for len(events) >= unix.SizeofInotifyEvent {
		e := (*unix.InotifyEvent)(unsafe.Pointer(&events[0]))
		end := unix.SizeofInotifyEvent + int(e.Len)
		if end > len(events) {
			return false
		}
		name := unix.ByteSliceToString(events[unix.SizeofInotifyEvent:end])
		if e.Mask&(unix.IN_DELETE_SELF|unix.IN_MOVE_SELF) != 0 || e.Len > 0 && name == folder.LockName {
			return true
		}
		events = events[end:]
	}
	return false
}

package shim

import (
	"os"
	"path/filepath"
	"time"

	"github.com/dora-go/dora/shim/folder"
)

// folderInterval is how often the shim looks whether its folder is still there. A watch by
// inotify would tell at once, but its closing waits for the kernel's next grace period and
// made the end of every shim 10 to 20 ms longer; this costs a stat every two seconds.
const folderInterval = 2 * time.Second

// watchFolder looks whether the lock in the shim's folder was removed or replaced: no other
// daemon can find the shim then. The one that is connected can, so the nodes run on as long
// as it is there; once nobody is, at two looks one after the other, they are stopped.
func (s *Shim) watchFolder() {
	path := filepath.Join(s.cfg.Dir, folder.LockName)
	gone, alone := false, false
	for range time.Tick(folderInterval) {
		fi, err := os.Stat(path)
		if missing := err != nil && os.IsNotExist(err) || err == nil && !s.lock.Is(fi); !missing && !gone {
			continue
		}
		if !gone {
			gone = true
			s.facts.warn("", 0, "the folder of the shim, "+s.cfg.Dir+", was removed; the nodes run on as long as this daemon does, and are stopped after it")
		}
		s.mu.Lock()
		before := alone
		alone = s.session == nil
		s.mu.Unlock()
		if before && alone {
			s.wind("its folder is gone, and so is its daemon")
			return
		}
	}
}

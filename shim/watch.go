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

// watchFolder stops the nodes when the lock in the shim's folder is removed or replaced:
// nobody could find the shim any more.
func (s *Shim) watchFolder() {
	path := filepath.Join(s.cfg.Dir, folder.LockName)
	for range time.Tick(folderInterval) {
		fi, err := os.Stat(path)
		if (err != nil && os.IsNotExist(err)) || (err == nil && !s.lock.Is(fi)) {
			s.wind("its folder is gone")
			return
		}
	}
}

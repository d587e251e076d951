//go:build !linux

package shim

import (
	"time"

	"github.com/dora-go/dora/shim/folder"
)

// watchFolder looks every two seconds whether the folder is still there.
func (s *Shim) watchFolder() {
	for range time.Tick(2 * time.Second) {
		if _, err := folder.ReadOwner(s.cfg.Dir); err != nil {
			s.wind("its folder is gone")
			return
		}
	}
}

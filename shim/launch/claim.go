package launch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/dora-go/dora/shim/folder"
)

// claimPatience is how long a shim that holds its lock may take to say who it is, or to
// see that it is not wanted.
const claimPatience = 2 * time.Second

// Again looks at the folder anew.
func (f Found) Again() (Found, error) {
	var err error
	if f.Alive, err = folder.Held(f.Dir); err != nil {
		return f, err
	}
	f.Owner, f.Rebooted = folder.Owner{}, false
	if owner, err := folder.ReadOwner(f.Dir); err == nil {
		f.Owner = owner
		f.Rebooted = owner.BootID != folder.BootID()
	}
	return f, nil
}

// Claim says whether the shim of this token lives. If it does not, it never will: one that
// is still on its way to the lock (its daemon was killed as it started it) finds another
// token in `want`, and ends.
func Claim(stateDir, dataflow, token string) (Found, error) {
	state, err := filepath.Abs(stateDir)
	if err != nil {
		return Found{}, fmt.Errorf("claim shim: state folder %s: %w", stateDir, err)
	}
	f := Found{Dir: filepath.Join(folder.Root(state), dataflow), Dataflow: dataflow}
	if _, err := os.Stat(f.Dir); errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	barred := false
	for until := time.Now().Add(claimPatience); ; time.Sleep(2 * time.Millisecond) {
		if f, err = f.Again(); err != nil {
			return f, fmt.Errorf("claim shim of dataflow %s: %w", dataflow, err)
		}
		switch {
		case f.Alive && f.Owner.Token == token && f.Owner.PID != 0:
			if barred { // it was quicker: it is wanted after all
				err = folder.WriteWant(f.Dir, folder.Want{Token: token})
			}
			return f, err
		case !f.Alive && barred:
			return f, nil
		case !f.Alive:
			if err := folder.WriteWant(f.Dir, folder.Want{Token: "none-" + folder.NewName()}); err != nil {
				return f, fmt.Errorf("claim shim of dataflow %s: %w", dataflow, err)
			}
			barred = true // and look once more: it may have got the lock just before
		case time.Now().After(until):
			return f, fmt.Errorf("claim shim of dataflow %s: process %d with token %q holds its lock: %w", dataflow, f.Owner.PID, f.Owner.Token, folder.ErrHeld)
		}
	}
}

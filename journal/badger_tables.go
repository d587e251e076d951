package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/table"
)

// rescueName is a folder beside Badger's with what an open would otherwise delete.
const rescueName = "rescued"

// checkTables verifies Badger's manifest and the tables it names before Badger opens
// them. Badger itself leaves out a table with an altered block and goes on, or panics in
// a goroutine that nobody can recover; and it deletes tables that its manifest does not
// name, also when the end of the manifest is what was lost. Files are read, not mapped:
// a bad sector is an error then, not a signal.
func (s *badgerStore) checkTables() error {
	folder := filepath.Join(s.dir, badgerName)
	path := filepath.Join(folder, badger.ManifestFilename)
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil // a new store; checkFolder knows better if it is not
	}
	if err != nil {
		return fmt.Errorf("open the journal: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() == 0 {
		return nil // a kill while Badger created it; checkFormat knows better if not
	}
	var manifest badger.Manifest
	var whole int64
	err = guard(func() (err error) {
		manifest, whole, err = badger.ReplayManifestFile(f, 0, badger.DefaultOptions(folder))
		return err
	})
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrDamaged, path, err)
	}
	var damages []error
	for id := range manifest.Tables {
		damages = append(damages, checkTable(table.NewFilename(id, folder), id))
	}
	if err := joinDamages(s.dir, damages); err != nil {
		return err
	}
	if whole < info.Size() {
		return s.rescue(folder, manifest)
	}
	return nil
}

func checkTable(path string, id uint64) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("%w: a table of Badger: %w", ErrDamaged, err)
	}
	err = guard(func() error {
		t, err := table.OpenInMemoryTable(data, id, &table.Options{ChkMode: options.OnTableRead, Compression: options.None})
		if err != nil {
			return err
		}
		return t.VerifyChecksum()
	})
	if err == nil {
		return nil
	}
	// Badger's texts run over many lines.
	text, _, _ := strings.Cut(strings.TrimSpace(strings.ReplaceAll(err.Error(), "panic:", "")), "\n")
	return fmt.Errorf("%w: %s (%d bytes) is altered or cut: %s", ErrDamaged, path, len(data), strings.TrimSpace(text))
}

// rescue gives second names to the tables that Badger is about to delete because the end
// of its manifest is torn. Usually the log still holds their events, and open removes the
// folder when it has verified that.
func (s *badgerStore) rescue(folder string, manifest badger.Manifest) error {
	to := filepath.Join(s.dir, rescueName)
	if err := os.MkdirAll(to, 0o700); err != nil {
		return fmt.Errorf("keep unnamed tables of %s: %w", s.dir, err)
	}
	names, err := filepath.Glob(filepath.Join(folder, "*.sst"))
	if err != nil {
		return err
	}
	for _, name := range names {
		if id, ok := table.ParseFileID(name); ok {
			if _, named := manifest.Tables[id]; named {
				continue
			}
		}
		if err := os.Link(name, filepath.Join(to, filepath.Base(name))); err != nil && !errors.Is(err, os.ErrExist) {
			s.log.WithError(err).Warnf("journal %s: an unnamed table cannot be kept", s.dir)
		}
	}
	content, err := os.ReadFile(filepath.Join(folder, badger.ManifestFilename))
	if err == nil {
		err = os.WriteFile(filepath.Join(to, badger.ManifestFilename), content, 0o600)
	}
	if err != nil {
		return fmt.Errorf("keep the manifest of %s: %w", s.dir, err)
	}
	s.log.Warnf("journal %s: the end of Badger's manifest is torn, kept what it no longer names in %s", s.dir, to)
	return nil
}

// rescued names the folder of rescue for an error text, if there is one.
func (s *badgerStore) rescued() string {
	to := filepath.Join(s.dir, rescueName)
	if _, err := os.Stat(to); err != nil {
		return ""
	}
	return "; what Badger would have deleted is in " + to
}

package journal_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/dora-go/dora/journal"
	"github.com/dora-go/dora/journal/journaltest"
)

func init() {
	children["damage"] = damageChild
	children["fixture"] = fixtureChild
}

// image is a folder in memory. Files of Badger are mostly empty: zeros at their ends are
// only a length.
type image map[string]imageFile

type imageFile struct {
	content []byte
	size    int64
}

func readImage(t testing.TB, dir string) image {
	t.Helper()
	im := image{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		im[rel] = imageFile{bytes.Clone(bytes.TrimRight(b, "\x00")), int64(len(b))}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return im
}

func (im image) write(dir string) error {
	for rel, f := range im {
		path := filepath.Join(dir, rel)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, f.content, 0o600); err != nil {
			return err
		}
		if err := os.Truncate(path, f.size); err != nil {
			return err
		}
	}
	return nil
}

// with returns the image with one file changed; nil removes it.
func (im image) with(rel string, f *imageFile) image {
	next := image{}
	for name, file := range im {
		next[name] = file
	}
	if f == nil {
		delete(next, rel)
	} else {
		next[rel] = *f
	}
	return next
}

// damage is one row of the table.
type damage struct {
	name  string
	image image
	// harmless damages may also go unnoticed, as long as every event is there: they
	// hit what Badger writes but never needs.
	harmless bool
}

func (im image) flip(rel string, off int) damage {
	f := im[rel]
	f.content = bytes.Clone(f.content)
	f.content[off] ^= 0x10
	return damage{name: fmt.Sprintf("flip %s@%d", rel, off), image: im.with(rel, &f)}
}

func (im image) cut(rel string, size int64) damage {
	f := im[rel]
	f.content = f.content[:min(size, int64(len(f.content)))]
	f.size = size
	return damage{name: fmt.Sprintf("cut %s@%d", rel, size), image: im.with(rel, &f)}
}

func (im image) without(rel string) damage {
	return damage{name: "without " + rel, image: im.with(rel, nil)}
}

// damageChild opens every damaged folder it is given and prints the outcome. It is a
// process of its own, as damage that went unnoticed may end it.
func damageChild() error {
	list, err := os.ReadFile(os.Getenv("DAMAGE_LIST"))
	if err != nil {
		return err
	}
	dirs := strings.Fields(string(list))
	from, err := strconv.Atoi(os.Getenv("DAMAGE_FROM"))
	if err != nil {
		return err
	}
	for i, dir := range dirs[from:] {
		fmt.Printf("begin %d\n", from+i)
		fmt.Printf("end %d %s\n", from+i, strings.ReplaceAll(outcome(dir), "\n", " "))
	}
	return nil
}

// outcome opens a folder and says in one word, then in detail, what became of it.
func outcome(dir string) string {
	st, err := journal.OpenBadger(dir, journal.OpenOptions{Ballast: -1, Reserve: -1})
	switch {
	case errors.Is(err, journal.ErrDamaged):
		return "damaged " + err.Error()
	case err != nil:
		return "error " + err.Error()
	}
	defer st.Close()
	if err := st.Verify(context.Background()); err != nil {
		return "unverified " + err.Error()
	}
	sum, err := digest(st)
	if err != nil {
		return "unreadable " + err.Error()
	}
	if w := st.Recovery().Warnings; len(w) > 0 {
		return "warned " + sum + " " + strings.Join(w, "; ")
	}
	return "whole " + sum
}

// digest is a checksum over everything that can be read.
func digest(st *journal.Journal) (string, error) {
	h := sha256.New()
	enc := json.NewEncoder(h)
	for env, err := range st.ReadAll(context.Background(), 0) {
		if err != nil {
			return "", err
		}
		if err := enc.Encode(env); err != nil {
			return "", err
		}
	}
	names, err := st.Streams("")
	if err != nil {
		return "", err
	}
	for _, name := range names {
		for env, err := range st.Read(context.Background(), name, 0) {
			if err != nil {
				return "", err
			}
			fmt.Fprintln(h, env.Pos, env.Seq)
		}
		if seq, state, err := st.LoadSnapshot(name); err == nil {
			fmt.Fprintln(h, name, seq, string(state))
		}
	}
	fmt.Fprintln(h, st.Epoch(), st.Head(), st.ID())
	return fmt.Sprintf("%x", h.Sum(nil)[:8]), nil
}

// outcomes runs a list of damages through children and returns what became of each;
// "crash" if the child died of it.
func outcomes(t *testing.T, list []damage) []string {
	t.Helper()
	results := make([]string, len(list))
	const part = 40 // folders on the disk at a time
	for start := 0; start < len(list); start += part {
		end := min(start+part, len(list))
		root := t.TempDir()
		var dirs []string
		for i := start; i < end; i++ {
			dir := filepath.Join(root, strconv.Itoa(i))
			if err := list[i].image.write(dir); err != nil {
				t.Fatal(err)
			}
			dirs = append(dirs, dir)
		}
		names := filepath.Join(root, "list")
		if err := os.WriteFile(names, []byte(strings.Join(dirs, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
		for next := 0; next < len(dirs); {
			cmd, lines := child(t, "damage", "DAMAGE_LIST="+names, "DAMAGE_FROM="+strconv.Itoa(next))
			cmd.Stderr = io.Discard
			for lines.Scan() {
				f := strings.SplitN(lines.Text(), " ", 3)
				i, err := strconv.Atoi(f[1])
				if err != nil {
					t.Fatal(err)
				}
				if next = i + 1; f[0] == "begin" {
					results[start+i] = "crash"
				} else {
					results[start+i] = f[2]
				}
			}
			if err := cmd.Wait(); err != nil && next < len(dirs) {
				t.Logf("%s: the child ended with %v", list[start+next-1].name, err)
			}
		}
		os.RemoveAll(root)
	}
	return results
}

// fixtureChild fills a store with events in tables, in the value log and in the log of
// the memtable, and kills itself.
func fixtureChild() error {
	endWithParent()
	var st *journal.Journal
	for round := range 3 {
		var err error
		if st, err = kinds["badger"](os.Getenv("FIXTURE_DIR")); err != nil {
			return err
		}
		const n = 30
		for i := range n {
			list := journaltest.Events(100*round+i, 2)
			if i == n/2 {
				list[0].Data = json.RawMessage(`"` + strings.Repeat("large ", 15000) + `"`)
			}
			stream := fmt.Sprintf("stream/%d", i%3)
			if err := st.Append(testContext, journal.Append{Stream: stream, Expected: journal.Any, Events: list}); err != nil {
				return err
			}
		}
		if _, err := st.RaiseEpoch(); err != nil {
			return err
		}
		if err := st.SaveSnapshot("stream/1", 2*uint64(n/3), []byte("state")); err != nil {
			return err
		}
		if round == 1 {
			if err := st.Truncate(testContext, "stream/2", 10, "old", journaltest.At); err != nil {
				return err
			}
		}
		if round < 2 {
			if err := st.Close(); err != nil {
				return err
			}
		}
	}
	return syscall.Kill(os.Getpid(), syscall.SIGKILL)
}

// damagedStore makes a store as a kill leaves it, and the digest of its content.
func damagedStore(t *testing.T) (image, string) {
	t.Helper()
	dir := t.TempDir()
	cmd, lines := child(t, "fixture", "FIXTURE_DIR="+dir)
	for lines.Scan() {
		t.Log(lines.Text())
	}
	if err := cmd.Wait(); !killed(err) {
		t.Fatalf("the fixture: %v", err)
	}
	im := readImage(t, dir)
	delete(im, "lock")
	delete(im, "badger/LOCK")
	for _, want := range []string{".sst", ".mem", ".vlog", "MANIFEST", "mark"} {
		if !slices.ContainsFunc(im.names(), func(name string) bool { return strings.HasSuffix(name, want) }) {
			t.Fatalf("the store has no %s: %v", want, im.names())
		}
	}
	whole := outcomes(t, []damage{{name: "whole", image: im}})[0]
	sum, ok := strings.CutPrefix(whole, "whole ")
	if !ok {
		t.Fatalf("the undamaged store: %s", whole)
	}
	return im, sum
}

func (im image) names() []string {
	var names []string
	for name := range im {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// TestDamagedBadger: nothing that was altered, cut or taken away is accepted silently,
// and nothing ends the process.
func TestDamagedBadger(t *testing.T) {
	t.Parallel()
	im, sum := damagedStore(t)
	list := damageTable(t, im)
	notices := map[string]int{}
	for i, got := range outcomes(t, list) {
		word, _, _ := strings.Cut(got, " ")
		notices[word]++
		switch {
		case word == "damaged":
		case word == "warned" && strings.HasPrefix(got, "warned "+sum+" "):
		case got == "whole "+sum && list[i].harmless:
		default:
			t.Errorf("%s: %s (whole is %s)", list[i].name, got, sum)
		}
	}
	t.Logf("%d damages: %v", len(list), notices)
}

func damageTable(t *testing.T, im image) []damage {
	t.Helper()
	density := 1
	if s := os.Getenv("JOURNAL_DAMAGES"); s != "" { // for long runs by hand
		var err error
		if density, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	var list []damage
	for _, name := range im.names() {
		f, flips := im[name], 4*density
		n := len(f.content)
		// Badger neither needs nor checks these two, nor its own checksum behind a
		// large value: ours is within the value.
		spare := strings.HasSuffix(name, "DISCARD") || strings.HasSuffix(name, "KEYREGISTRY")
		for k := range min(flips, n) {
			d := im.flip(name, k*n/min(flips, n))
			d.harmless = spare
			list = append(list, d)
		}
		if n > 0 {
			d := im.flip(name, n-1)
			d.harmless = spare || strings.HasSuffix(name, ".vlog")
			list = append(list, d)
		}
		for k := range 2 * density {
			d := im.cut(name, int64(k*n/(2*density)))
			d.harmless = spare
			list = append(list, d)
		}
		last := im.cut(name, f.size-1)
		last.harmless = spare || int64(n) < f.size
		gone := im.without(name)
		gone.harmless = spare
		list = append(list, last, gone)
	}
	return append(list, im.rearranged(t)...)
}

// rearranged are damages of more than one file.
func (im image) rearranged(t *testing.T) []damage {
	t.Helper()
	var tables []string
	onlyMark := im
	for _, name := range im.names() {
		if strings.HasSuffix(name, ".sst") {
			tables = append(tables, name)
		}
		if name != "mark" {
			onlyMark = onlyMark.with(name, nil)
		}
	}
	if len(tables) < 2 {
		t.Fatalf("the store has the tables %v, two are needed", tables)
	}
	first, second := im[tables[0]], im[tables[1]]
	other := t.TempDir()
	st, err := kinds["badger"](other)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	strange := readImage(t, other)
	foreign := strange["mark"]
	swapped := im
	for _, name := range im.names() {
		if strings.HasPrefix(name, "badger/") {
			swapped = swapped.with(name, nil)
		}
	}
	for name, f := range strange {
		if strings.HasPrefix(name, "badger/") && !strings.HasSuffix(name, "LOCK") {
			swapped = swapped.with(name, &f)
		}
	}
	return []damage{
		// Keys carry their version, so nothing is lost by it.
		{name: "two tables exchanged", image: im.with(tables[0], &second).with(tables[1], &first), harmless: true},
		{name: "one table twice", image: im.with(tables[0], &second)},
		{name: "the folder of Badger gone", image: onlyMark},
		{name: "the mark of another journal", image: im.with("mark", &foreign)},
		{name: "the store of another journal", image: swapped},
	}
}

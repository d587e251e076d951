package production

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// control is one promise that is taken out of the program, and the test that must notice.
type control struct {
	name, file string      // of this repository
	changes    [][2]string // text that stands there once, and what it becomes
	test       string      // pattern of -test.run
	notices    string      // pattern in what it prints
}

var controls = []control{
	{
		name: "no facts.log", file: "shim/factlog/factlog.go",
		changes: [][2]string{{"\treturn l.write(rec)\n", "\t_ = rec\n\treturn nil\n"}},
		test:    "^TestShimAndDaemonDieTogether$", notices: `reason "`,
	},
	{
		name: "no lock", file: "shim/folder/folder.go",
		changes: [][2]string{{"err := unix.Flock(int(f.Fd()), how)", "_ = unix.Flock\n\t\tvar err error"}},
		test:    "^TestNodesOutliveCoordinatorAndDaemon$", notices: `the nodes are|no data flows|, want Running`,
	},
	{
		name: "cursor and facts apart", file: "actors/remote_actor.go",
		changes: [][2]string{
			{"import (\n", "import (\n\t\"os\"\n"},
			{"\tif err := a.led.writeUrgent(recs); err != nil {\n", "\t_ = os.WriteFile(os.Getenv(\"DORA_HOME\")+\"/cursor-\"+a.journal, []byte(fmt.Sprint(envs[len(envs)-1].Pos)), 0o600)\n\tif err := a.led.writeUrgent(recs); err != nil {\n"},
			{"\ta.journal, a.led, a.cursor, a.proj = id, led, cursor, proj\n", "\tif raw, err := os.ReadFile(os.Getenv(\"DORA_HOME\") + \"/cursor-\" + id); err == nil {\n\t\tfmt.Sscan(string(raw), &cursor)\n\t}\n\ta.journal, a.led, a.cursor, a.proj = id, led, cursor, proj\n"},
		},
		test: "^TestKilledAtFailpoints$/^coordinator:journal-before-append:6$", notices: `the coordinator has|fact \d+ of the coordinator is|Status:Pending`, // it never hears of the start
	},
}

// TestChecksCanFail takes what recovery rests on out of the program, one after the other
// (the sources in the repository stay as they are), and has the test of it run: it fails.
// It builds the program three times, and is part of the soak.
func TestChecksCanFail(t *testing.T) {
	if os.Getenv("DORA_SOAK") == "" {
		return // part of the soak
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range controls {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.Command(self, "-test.run", c.test, "-test.count=1", "-test.timeout=5m")
			cmd.Env = append(os.Environ(), "GOFLAGS=-overlay="+c.overlay(t), "DORA_SOAK=")
			out, err := cmd.CombinedOutput()
			switch {
			case err == nil:
				t.Errorf("%s passes:\n%s", c.test, out)
			case !regexp.MustCompile(c.notices).Match(out):
				t.Errorf("%s fails (%v), but not because of %s:\n%s", c.test, err, c.notices, out)
			}
		})
	}
}

// overlay is a file that has the go command build the changed source.
func (c control) overlay(t *testing.T) string {
	t.Helper()
	source, err := filepath.Abs(filepath.Join("..", "..", c.file))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for _, change := range c.changes {
		if strings.Count(text, change[0]) != 1 {
			t.Fatalf("%q does not stand in %s once: the control has to follow the code", change[0], c.file)
		}
		text = strings.Replace(text, change[0], change[1], 1)
	}
	changed, overlay := filepath.Join(t.TempDir(), "changed.go"), filepath.Join(t.TempDir(), "overlay.json")
	if err := os.WriteFile(changed, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	raw, err = json.Marshal(map[string]map[string]string{"Replace": {source: changed}})
	if err == nil {
		err = os.WriteFile(overlay, raw, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return overlay
}

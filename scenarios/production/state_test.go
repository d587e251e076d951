package production

import (
	"encoding/binary"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRemovedStateFolder: the state folder is removed while a dataflow runs. It runs on, data
// flows, commands say what is wrong, with the token it can even be stopped; and when the last
// process that knows of it is gone, its nodes are, too.
func TestRemovedStateFolder(t *testing.T) {
	s := newSite(t)
	s.write("stream.yml", stream)
	s.dora("up")
	stays := s.start("stream.yml", "--name", "stays")
	goes := s.start("stream.yml", "--name", "goes")
	s.await(stays, "Running")
	s.await(goes, "Running")
	token, err := os.ReadFile(filepath.Join(s.home(), "token"))
	if err != nil {
		t.Fatal(err)
	}
	s.awaitNodes(4)
	nodes := s.nodes()
	if err := os.RemoveAll(s.home()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(6 * time.Second) // three looks of the shims
	if now := s.nodes(); !maps.Equal(now, nodes) {
		t.Errorf("the nodes were %v and are %v", nodes, now)
	}
	s.flows(stays, "sink", 0)
	s.fails(1, "token", "list")
	s.fails(1, "which refuses us", "up")
	s.env = append(s.env, "DORA_AUTH_TOKEN="+strings.TrimSpace(string(token)))
	if r := s.find(stays); r.Status != "Running" {
		t.Errorf("it is %+v", r)
	}
	s.fails(1, "cannot be started", "start", "stream.yml", "--name", "more", "--detach")
	s.dora("stop", "goes")
	s.awaitNodes(2)
	if r := s.find(goes); r.Status != "Finished" {
		t.Errorf("the one that was stopped is %+v", r)
	}
	s.kill("coordinator", "daemon")
	s.awaitNodes(0)
	s.counts(map[string]int{"shim": 0, "guard": 0})
}

// TestReadOnlyDisk: a state folder on a disk that cannot be written is named, with a fix.
func TestReadOnlyDisk(t *testing.T) {
	s := newSite(t)
	s.w.PrivateShm(64<<20, 0)
	s.env = append(s.env, "DORA_HOME=/dev/shm/home")
	sh := func(script string) {
		t.Helper()
		if out, err := s.w.Command(s.dir, "sh", "-c", script).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
	}
	s.write("stream.yml", stream)
	for _, prepare := range []string{"true", "mkdir -m 700 -p /dev/shm/home"} {
		sh(prepare + " && mount -o remount,ro /dev/shm")
		for _, args := range [][]string{{"up"}, {"coordinator", "--port", "0"}, {"daemon"}} {
			if out := s.fails(1, "read-only file system", args...); !strings.Contains(out, "/dev/shm/home") {
				t.Errorf("the folder is not named:\n%s", out)
			}
		}
		sh("mount -o remount,rw /dev/shm")
	}
	sh("rm -rf /dev/shm/home")
}

// TestNewerStore: a store of a newer version is named and left alone.
func TestNewerStore(t *testing.T) {
	s := newSite(t)
	s.dora("up")
	s.dora("down")
	mark := filepath.Join(s.home(), "coordinator.badger", "mark")
	raw, err := os.ReadFile(mark)
	if err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint32(raw[8:], 1000)
	binary.LittleEndian.PutUint32(raw[508:], crc32.Checksum(raw[:508], crc32.MakeTable(crc32.Castagnoli)))
	if err := os.WriteFile(mark, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // it is not touched
		out := s.fails(1, "schema 1000", "coordinator", "--port", "0")
		if !strings.Contains(out, "use the newer dora") {
			t.Errorf("no fix is told:\n%s", out)
		}
	}
}

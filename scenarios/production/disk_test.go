package production

import (
	"strings"
	"testing"
	"time"
)

// TestFullDisk fills the disk of the state folder: what runs runs on and can be stopped, new
// dataflows are refused with the reason, and once there is space all is recorded.
func TestFullDisk(t *testing.T) {
	s := newSite(t)
	s.w.PrivateShm(300<<20, 0)
	s.env = append(s.env, "DORA_HOME=/dev/shm/home")
	sh := func(script string) {
		t.Helper()
		cmd := s.w.Command(s.dir, "sh", "-c", script)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
	}
	t.Cleanup(func() { // before the site is taken down
		sh("rm -f /dev/shm/fill")
		_, _ = s.try("down")
		sh("rm -rf /dev/shm/home")
	})
	s.write("stream.yml", stream)
	s.dora("up")
	id := s.start("stream.yml", "--name", "demo")
	s.await(id, "Running")
	sh("dd if=/dev/zero of=/dev/shm/fill bs=1M 2>/dev/null; true")
	// The place is looked at again every moment.
	s.eventually(10*time.Second, func() bool {
		out, err := s.try("start", "stream.yml", "--name", "more", "--detach")
		if err == nil {
			_, _ = s.try("stop", "more", "--force")
			return false
		}
		return strings.Contains(out, "space")
	}, func() string {
		out, err := s.try("start", "stream.yml", "--name", "more", "--detach")
		return "a start on a full disk gives: " + out + errText(err)
	})
	s.flows(id, "sink", 0)
	out, err := s.try("stop", "demo")
	if err != nil {
		t.Errorf("stop on a full disk: %v\n%s", err, out)
	}
	s.awaitNodes(0)
	sh("rm /dev/shm/fill")
	s.eventually(10*time.Second, func() bool { return s.find(id).Status == "Finished" }, func() string { return "its end is not known" })
	next := ""
	s.eventually(10*time.Second, func() bool {
		out, err := s.try("start", "stream.yml", "--name", "next", "--detach")
		_, next, _ = strings.Cut(strings.TrimSpace(out), "dataflow started: ")
		return err == nil
	}, func() string { return "with space again nothing starts" })
	s.await(next, "Running")
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

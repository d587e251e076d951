package contain

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"
)

// BootID identifies this boot of the machine; a lock file of another boot is of a shim
// that is gone.
var BootID = sync.OnceValue(func() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
})

// StartTime is field 22 of /proc/<pid>/stat: clock ticks between boot and the start of
// the process. With the boot id and the pid it names a process for good.
func StartTime(pid int) (uint64, error) {
	st, err := ReadStat(pid)
	return st.StartTime, err
}

// Stat is what is needed of /proc/<pid>/stat.
type Stat struct {
	State     byte // 'Z' is a zombie
	PPID      int
	PGID      int
	SID       int
	StartTime uint64
}

var errStat = errors.New("/proc/<pid>/stat is not as documented")

// ReadStat reads /proc/<pid>/stat. The name in it may hold blanks and brackets, so the
// fields are counted from the last bracket.
func ReadStat(pid int) (Stat, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return Stat{}, err
	}
	end := bytes.LastIndexByte(b, ')')
	if end < 0 {
		return Stat{}, errStat
	}
	f := strings.Fields(string(b[end+1:]))
	if len(f) < 20 {
		return Stat{}, errStat
	}
	var st Stat
	st.State = f[0][0]
	st.PPID, _ = strconv.Atoi(f[1])
	st.PGID, _ = strconv.Atoi(f[2])
	st.SID, _ = strconv.Atoi(f[3])
	st.StartTime, err = strconv.ParseUint(f[19], 10, 64)
	if err != nil {
		return Stat{}, errStat
	}
	return st, nil
}

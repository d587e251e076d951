package nodewire

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// ProtocolVersion is the dora release whose node protocol this package speaks.
const ProtocolVersion = "1.1.0"

// GoVersion is what Go nodes register with. The build metadata does not count when
// versions are compared, here and in official dora; it tells our shim that the node has
// no direct path.
const GoVersion = ProtocolVersion + "+go"

// UUID of a dataflow.
type UUID [16]byte

// ParseUUID reads the hyphenated form.
func ParseUUID(s string) (UUID, error) {
	var u UUID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return u, fmt.Errorf("%q is not a UUID (want 8-4-4-4-12 hexadecimal digits)", s)
	}
	if _, err := hex.Decode(u[:], []byte(s[:8]+s[9:13]+s[14:18]+s[19:23]+s[24:])); err != nil {
		return UUID{}, fmt.Errorf("%q is not a UUID: %w", s, err)
	}
	return u, nil
}

func (u UUID) String() string {
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// CheckVersion decides whether a node may register: its release must be compatible with
// ProtocolVersion by semantic versioning in either direction (every 1.x with every other
// 1.x), and its message format must be ours. The error is what the node prints.
func CheckVersion(version string, metadataVersion uint16) error {
	theirs, err := parseSemver(version)
	if err != nil {
		return fmt.Errorf("the node's dora version: %w", err)
	}
	ours, _ := parseSemver(ProtocolVersion)
	if !ours.caretMatches(theirs) && !theirs.caretMatches(ours) {
		return fmt.Errorf("version mismatch: the node was built for dora %s, which does not speak with dora %s; install a dora node API of version %d.x",
			version, ProtocolVersion, ours.num[0])
	}
	if metadataVersion != MetadataVersion {
		return fmt.Errorf("message format mismatch: the node speaks metadata version %d, this dora speaks version %d; install a node API of dora %s",
			metadataVersion, MetadataVersion, ProtocolVersion)
	}
	return nil
}

type semver struct {
	num [3]uint64
	pre []string
}

func parseSemver(s string) (semver, error) {
	var v semver
	bad := fmt.Errorf("%q is not a version like 1.1.0", s)
	if len(s) > 256 {
		return v, fmt.Errorf("a version of %d bytes is not one", len(s))
	}
	core, _, _ := strings.Cut(s, "+")
	core, pre, hasPre := strings.Cut(core, "-")
	parts := strings.Split(core, ".")
	if len(parts) != 3 {
		return v, bad
	}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 64)
		if err != nil || p[0] == '+' || len(p) > 1 && p[0] == '0' {
			return v, bad
		}
		v.num[i] = n
	}
	if hasPre {
		v.pre = strings.Split(pre, ".")
		for _, p := range v.pre {
			if p == "" {
				return v, bad
			}
		}
	}
	return v, nil
}

// caretMatches says whether v satisfies the requirement ^r of Cargo: not older than r,
// equal in the leftmost number of r that is not zero, and a pre-release only of the very
// release that r names.
func (r semver) caretMatches(v semver) bool {
	if len(v.pre) > 0 && !(len(r.pre) > 0 && v.num == r.num) {
		return false
	}
	if v.compare(r) < 0 {
		return false
	}
	for i, n := range r.num {
		if v.num[i] != n {
			return false
		}
		if n != 0 {
			break
		}
	}
	return true
}

func (v semver) compare(w semver) int {
	for i := range v.num {
		if v.num[i] != w.num[i] {
			return cmp(v.num[i] < w.num[i])
		}
	}
	switch {
	case len(v.pre) == 0 && len(w.pre) == 0:
		return 0
	case len(v.pre) == 0 || len(w.pre) == 0:
		return cmp(len(v.pre) != 0) // a release is above its pre-releases
	}
	for i := 0; i < len(v.pre) && i < len(w.pre); i++ {
		if c := comparePre(v.pre[i], w.pre[i]); c != 0 {
			return c
		}
	}
	if len(v.pre) == len(w.pre) {
		return 0
	}
	return cmp(len(v.pre) < len(w.pre))
}

// comparePre orders two identifiers of a pre-release: numbers by value and below words.
func comparePre(a, b string) int {
	x, errA := strconv.ParseUint(a, 10, 64)
	y, errB := strconv.ParseUint(b, 10, 64)
	switch {
	case errA == nil && errB == nil && x != y:
		return cmp(x < y)
	case errA == nil && errB == nil:
		return 0
	case errA == nil || errB == nil:
		return cmp(errA == nil)
	}
	return strings.Compare(a, b)
}

func cmp(less bool) int {
	if less {
		return -1
	}
	return 1
}

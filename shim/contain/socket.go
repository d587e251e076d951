package contain

import (
	"os"
	"strings"
)

// SocketDirPrefix begins the name of a folder in /tmp that was made for one socket alone.
const SocketDirPrefix = "dora-x"

// RemoveSocket removes a socket and, if it was made for this socket alone, its folder.
func RemoveSocket(path string) {
	if path == "" {
		return
	}
	os.Remove(path)
	if dir := path[:max(0, strings.LastIndexByte(path, '/'))]; strings.HasPrefix(dir, "/tmp/"+SocketDirPrefix) {
		os.Remove(dir)
	}
}

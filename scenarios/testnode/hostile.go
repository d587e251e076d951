package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/dora-go/dora/transport/nodewire"
)

// hostile misbehaves on the connection that the node's configuration names:
//
//	garbage    bytes that are no frame
//	huge       the header of a 65 MiB frame, above the limit of 64 MiB, and its body
//	wrong-id   Register under the id of no node
//	twice      Register twice on one connection
//
// It prints what the other side did.
func hostile(how string) error {
	cfg, err := nodewire.ParseConfig(os.Getenv("DORA_NODE_CONFIG"))
	if err != nil {
		return err
	}
	nc, err := net.Dial("tcp", cfg.Addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	switch how {
	case "garbage":
		body := []byte("\xff\xfe GET / HTTP/1.1\r\n\r\n")
		_ = binary.Write(nc, binary.LittleEndian, uint64(len(body)))
		_, err = nc.Write(body)
	case "huge":
		const size = 65 << 20
		_ = binary.Write(nc, binary.LittleEndian, uint64(size))
		chunk := make([]byte, 1<<20)
		for range size / len(chunk) {
			if _, err = nc.Write(chunk); err != nil {
				break
			}
		}
		err = nil // being cut off is what we want
	case "wrong-id", "twice":
		c := nodewire.NewConn(nc)
		id := cfg.Node
		if how == "wrong-id" {
			id = "somebody-else"
		}
		for range 2 {
			r := &nodewire.Request{Kind: nodewire.Register, Time: nodewire.NewClock().Now(), Dataflow: cfg.Dataflow,
				Node: id, Version: "1.1.0", MetadataVersion: nodewire.MetadataVersion}
			reply, _, err := c.Call(r)
			fmt.Printf("register %s: %q %v\n", id, reply.Error, err)
			if err != nil || reply.Error != "" {
				break
			}
		}
		return nil
	}
	if err != nil {
		return err
	}
	rest, err := io.ReadAll(nc)
	fmt.Printf("%s: connection ended after %d bytes, %v\n", how, len(rest), err)
	return nil
}

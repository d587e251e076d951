// Command capture writes what official nodes send into files: NAME.arrows has a
// message's payload, metadata.bin the encoded metadata of the first message.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/dora-go/dora/transport/nodewire"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "capture:", err)
		os.Exit(1)
	}
}

func run() error {
	cfg, err := nodewire.ParseConfig(os.Getenv("DORA_NODE_CONFIG"))
	if err != nil {
		return err
	}
	clock := nodewire.NewClock()
	var conns [2]*nodewire.Conn
	for i := range conns {
		if conns[i], err = nodewire.Dial(cfg.Addr, 0); err != nil {
			return err
		}
	}
	call := func(c *nodewire.Conn, r *nodewire.Request) (nodewire.Reply, error) {
		r.Time = clock.Now()
		reply, _, err := c.Call(r)
		return reply, err
	}
	if _, err := call(conns[0], nodewire.NewRegister(cfg.Dataflow, cfg.Node, clock.Now())); err != nil {
		return err
	}
	if _, err := call(conns[0], &nodewire.Request{Kind: nodewire.Subscribe}); err != nil {
		return err
	}
	if _, err := call(conns[1], nodewire.NewRegister(cfg.Dataflow, cfg.Node, clock.Now())); err != nil {
		return err
	}
	for n := 0; ; {
		reply, err := call(conns[0], &nodewire.Request{Kind: nodewire.NextEvent})
		if err != nil {
			return err
		}
		for _, ev := range reply.Events {
			switch ev.Kind {
			case nodewire.AllInputsClosed:
				return nil
			case nodewire.Input:
				if err := write(ev, n); err != nil {
					return err
				}
				n++
			}
		}
	}
}

func write(ev nodewire.Event, n int) error {
	md, err := ev.Message.Metadata()
	if err != nil {
		return err
	}
	if n == 0 {
		raw := ev.Message.Raw[:len(ev.Message.Raw)-len(ev.Message.Payload)]
		if err := os.WriteFile(filepath.Join("..", "..", "..", "testdata", "metadata.bin"), raw, 0o644); err != nil {
			return err
		}
	}
	name := md.Parameters["name"].Str
	fmt.Println(name, len(ev.Message.Payload), md.Parameters)
	return os.WriteFile(filepath.Join("..", name+".arrows"), ev.Message.Payload, 0o644)
}

package actors

import "github.com/dora-go/dora/transport/link"

// LoadFor turns a start into what its shim needs to know.
func LoadFor(r StartRequest) (*link.Load, error) { return nil, ErrClosed }

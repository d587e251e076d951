package events

import (
	"bytes"
	"errors"

	"github.com/go-json-experiment/json"
	jsonv1 "github.com/go-json-experiment/json/v1"
)

// strictly are the options of decoding. Beyond what they say, names are matched exactly,
// and a name that stands twice or text that is not UTF-8 is refused: [Seal] writes none
// of it. Members that the type does not have would mean that a shape changed without a
// new version, and reading on would lose them. A duration is a number of nanoseconds, as
// encoding/json writes it.
var strictly = json.JoinOptions(json.RejectUnknownMembers(true), jsonv1.FormatDurationAsNano(true))

// unmarshal decodes data, which must be one JSON object and nothing else, in a single
// pass. The decoder is the one of the standard library's encoding/json/v2; replay decodes
// millions of events, and encoding/json needs two passes and three times as long.
func unmarshal[E Event](data []byte) (e E, err error) {
	switch trimmed := bytes.TrimLeft(data, " \t\r\n"); {
	case len(trimmed) == 0:
		return e, errors.New("no data")
	case trimmed[0] == 'n': // the decoder takes null for a zero value
		return e, errors.New("null instead of an object")
	}
	err = json.Unmarshal(data, &e, strictly)
	return e, err
}

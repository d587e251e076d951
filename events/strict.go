package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"time"
)

// shape is what strict decoding needs to know of a type: the names of its fields, if it
// is flat. Replay decodes millions of events, and json.Decoder takes twice the time of
// json.Unmarshal.
type shape struct {
	flat  bool
	names map[string]bool
}

func shapeOf(t reflect.Type) shape {
	s := shape{flat: t.Kind() == reflect.Struct, names: map[string]bool{}}
	for i := 0; s.flat && i < t.NumField(); i++ {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		s.flat = name != "" && !f.Anonymous && isFlat(f.Type)
		s.names[name] = true
	}
	return s
}

// isFlat: no object of a type of ours stands within it.
func isFlat(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Slice:
		return isFlat(t.Elem())
	case reflect.Struct:
		return t == reflect.TypeFor[time.Time]()
	case reflect.Map, reflect.Pointer, reflect.Interface, reflect.Array:
		return false
	}
	return true
}

// unmarshal decodes data and refuses fields that the type does not have: they would mean
// that a shape changed without a new version, and reading on would lose them.
func (s *shape) unmarshal(data []byte, into any) error {
	if len(data) == 0 {
		return errors.New("no data")
	}
	if !s.flat || !s.knows(data) {
		return unmarshalSlowly(data, into)
	}
	return json.Unmarshal(data, into)
}

// knows tells whether data begins an object all of whose own keys are names of fields,
// spelled exactly so. It may say no to what is right, and what it says of data that is
// not JSON does not matter.
func (s *shape) knows(data []byte) bool {
	if data[0] != '{' {
		return false
	}
	depth, key := 0, false // key: a string at depth 1 would be a key
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '{', '[':
			depth++
			key = data[i] == '{'
		case '}', ']':
			depth--
			key = false
		case ',':
			key = true
		case ':':
			key = false
		case '"':
			start := i + 1
			for i++; i < len(data) && data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
			if depth == 1 && key && (i >= len(data) || !s.names[string(data[start:i])]) {
				return false
			}
		}
	}
	return true
}

func unmarshalSlowly(data []byte, into any) error {
	if bytes.Equal(bytes.TrimSpace(data), []byte("null")) {
		return errors.New("null instead of an object")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON value")
	}
	return nil
}

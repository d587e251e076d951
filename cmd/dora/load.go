package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/dora-go/dora/dataflow"
)

// loadDataflow reads a descriptor for a command that does something with it: warnings go
// to out, and what cannot be used is refused. Under strict types (strict, or the file
// says so) findings about types are errors. The text is the file's own, or the expanded
// one if it uses modules.
func loadDataflow(path string, strict bool, out io.Writer) (*dataflow.Descriptor, []byte, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, nil, err
	}
	desc, text, diags := dataflow.Load(abs)
	if desc != nil && (strict || desc.StrictTypes) {
		diags = desc.Strictly(diags)
	}
	for _, w := range diags.Warnings() {
		fmt.Fprintln(out, w)
	}
	errs := diags.Errors()
	if types, others := splitTypeFindings(errs); len(types) > 0 && len(others) == 0 {
		return nil, nil, fmt.Errorf("%w\n%d type warning(s) found, and types are strict (--strict-types, or `strict_types: true` in the file)", errs, len(types))
	}
	if len(errs) > 0 {
		return nil, nil, errors.New(errs.Error())
	}
	if len(desc.Modules) > 0 {
		text, err = desc.Flat() // what is kept must say all by itself
	}
	return desc, text, err
}

// loadToRun also refuses what this version cannot run.
func loadToRun(path string, strict bool, out io.Writer) (*dataflow.Descriptor, []byte, error) {
	desc, text, err := loadDataflow(path, strict, out)
	if err != nil {
		return nil, nil, err
	}
	if errs := dataflow.Unsupported(desc).Errors(); len(errs) > 0 {
		return nil, nil, errors.New(errs.Error())
	}
	return desc, text, nil
}

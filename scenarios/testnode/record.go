package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/dora-go/dora/nodeapi"
)

// record writes the events into a file as a Python node calls them.
func (t *testnode) record(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	for e := range t.node.Events() {
		if _, err := fmt.Fprintln(f, pythonWords(e)); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintln(f, "END")
	return err
}

func pythonWords(e nodeapi.Event) string {
	switch e := e.(type) {
	case *nodeapi.Input:
		return "INPUT " + e.ID
	case *nodeapi.InputClosed:
		return "INPUT_CLOSED " + e.ID
	case *nodeapi.InputRecovered:
		return "INPUT_RECOVERED " + e.ID
	case *nodeapi.NodeRestarted:
		return "NODE_RESTARTED " + e.Node
	case *nodeapi.NodeFailed:
		return "NODE_FAILED " + e.Node
	case *nodeapi.ParamUpdate:
		return "PARAM_UPDATE " + e.Key
	case *nodeapi.ParamDeleted:
		return "PARAM_DELETED " + e.Key
	case *nodeapi.Stop:
		return "STOP " + strings.ToUpper(strings.ReplaceAll(e.Cause.String(), " ", "_"))
	}
	return e.String()
}

// appendLine appends TEXT to FILE, given as FILE:TEXT.
func appendLine(arg string) error {
	path, text, _ := strings.Cut(arg, ":")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = fmt.Fprintln(f, text)
	return err
}

// printLines prints COUNT numbered lines at RATE per second, given as COUNT:RATE.
func printLines(arg string) error {
	count, rate, err := pair(arg)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(os.Stdout, 16<<10)
	begin := time.Now()
	for i := range count {
		fmt.Fprintf(w, "line %d\n", i)
		if rate == 0 || (i+1)%max(1, rate/100) != 0 {
			continue
		}
		if err := w.Flush(); err != nil {
			return err
		}
		time.Sleep(time.Until(begin.Add(time.Duration(i+1) * time.Second / time.Duration(rate))))
	}
	return w.Flush()
}

package nodeapi_test

import (
	"bytes"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/dora-go/dora/nodeapi"
)

// The examples of the guide run here, each in a dataflow of its own.
func TestExamplesRun(t *testing.T) {
	ids := func(p nodeapi.Parameters, name string) nodeapi.Parameters { return nodeapi.Parameters{name: p[name]} }
	t.Run("service client", func(t *testing.T) {
		w := nodeapi.NewWorld(t, []string{"value", "response"}, "request")
		go func() {
			w.Give("value", numbers(3), nil)
			_, _, p := w.Sent(0)
			w.Give("response", numbers(9), ids(p, nodeapi.ParamRequestID))
			w.End()
		}()
		ExampleServiceClient()
	})
	t.Run("calls in flight", func(t *testing.T) {
		w := nodeapi.NewWorld(t, []string{"response"}, "request")
		go func() {
			for i := 2; i >= 0; i-- {
				_, _, p := w.Sent(i)
				w.Give("response", numbers(float64(i*i)), ids(p, nodeapi.ParamRequestID))
			}
		}()
		ExampleServiceClient_Start()
	})
	t.Run("service server", func(t *testing.T) {
		w := nodeapi.NewWorld(t, []string{"request"}, "response")
		w.Give("request", numbers(4), nodeapi.Parameters{nodeapi.ParamRequestID: nodeapi.Text("r")})
		w.End()
		ExampleServiceServer()
		if output, data, p := w.Sent(0); output != "response" || data != "[16]" || p[nodeapi.ParamRequestID] != nodeapi.Text("r") {
			t.Errorf("got %s %s %v", output, data, p)
		}
	})
	t.Run("action client", func(t *testing.T) {
		w := nodeapi.NewWorld(t, []string{"feedback", "result"}, "goal", "cancel")
		go func() {
			_, _, p := w.Sent(0)
			goal := ids(p, nodeapi.ParamGoalID)
			w.Give("feedback", numbers(50), goal)
			w.Give("result", numbers(1), nodeapi.Parameters{nodeapi.ParamGoalID: goal[nodeapi.ParamGoalID], nodeapi.ParamGoalStatus: nodeapi.Text("succeeded")})
		}()
		ExampleActionClient()
	})
	t.Run("action server", func(t *testing.T) {
		w := nodeapi.NewWorld(t, []string{"goal", "cancel"}, "feedback", "result")
		go func() {
			w.Give("goal", numbers(1), nodeapi.Parameters{nodeapi.ParamGoalID: nodeapi.Text("g")})
			if output, _, p := w.Sent(2); output != "result" || p[nodeapi.ParamGoalStatus] != nodeapi.Text("succeeded") {
				t.Errorf("got %s %v", output, p)
			}
			w.End()
		}()
		ExampleActionServer()
	})
	t.Run("stream writer", func(t *testing.T) {
		w := nodeapi.NewWorld(t, nil, "audio")
		ExampleStreamWriter()
		if _, data, p := w.Sent(4); data != "[0.7]" || p[nodeapi.ParamSegmentID] != nodeapi.Int(2) || p[nodeapi.ParamFin] != nodeapi.Bool(true) {
			t.Errorf("got %s %v", data, p)
		}
	})
	t.Run("stream reader", func(t *testing.T) {
		w := nodeapi.NewWorld(t, []string{"audio"})
		w.Give("audio", numbers(1, 2), nodeapi.Parameters{nodeapi.ParamSessionID: nodeapi.Text("s"),
			nodeapi.ParamSegmentID: nodeapi.Int(0), nodeapi.ParamSequence: nodeapi.Int(0), nodeapi.ParamFin: nodeapi.Bool(true)})
		w.End()
		ExampleStreamReader()
	})
	t.Run("parameters", func(t *testing.T) {
		w := nodeapi.NewWorld(t, []string{"value"}, "other", "scaled")
		w.SetParam("gain", "2.5")
		w.Give("value", numbers(4), nil)
		w.End()
		ExampleParam()
		if _, data, _ := w.Sent(0); data != "[10]" {
			t.Errorf("got %s", data)
		}
	})
	t.Run("stats and shutdown", func(t *testing.T) {
		for _, example := range []func(){ExampleNode_Stats, ExampleNode_ShutdownOn} {
			w := nodeapi.NewWorld(t, []string{"value"})
			w.Give("value", numbers(1), nil)
			w.End()
			example()
		}
	})
	t.Run("types", func(t *testing.T) {
		t.Setenv("DORA_RUNTIME_TYPE_CHECK", "error")
		nodeapi.NewWorld(t, nil, "count")
		ExampleTypeError()
	})
	t.Run("first node", func(t *testing.T) {
		w := nodeapi.NewWorld(t, []string{"value"}, "other", "mean")
		w.Give("value", numbers(1, 2), nil)
		w.End()
		Example()
		if output, data, _ := w.Sent(0); output != "mean" || data != "[1.5]" {
			t.Errorf("got %s %s", output, data)
		}
	})
}

var snippet = regexp.MustCompile("(?s)<!-- (\\w+) -->\n```go\n(.*?)```")

// Every Go snippet of the guide is an example of this package, word for word.
func TestGuideIsMadeOfExamples(t *testing.T) {
	guide, err := os.ReadFile("../docs/nodes-go.md")
	if err != nil {
		t.Fatal(err)
	}
	bodies := exampleBodies(t, "example_test.go", "example_patterns_test.go")
	found := snippet.FindAllSubmatch(guide, -1)
	if all := bytes.Count(guide, []byte("```go\n")); len(found) != all || all < 8 {
		t.Errorf("%d of %d snippets name their example", len(found), all)
	}
	for _, m := range found {
		name, code := string(m[1]), string(m[2])
		if body, ok := bodies[name]; !ok || body != code {
			t.Errorf("the snippet %s in docs/nodes-go.md differs from the example, which is:\n%s", name, body)
		}
	}
}

// exampleBodies are the bodies of functions, without their indentation.
func exampleBodies(t *testing.T, files ...string) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, file, src, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			body := src[set.Position(fn.Body.Lbrace).Offset+1 : set.Position(fn.Body.Rbrace).Offset]
			body, err := format.Source(body)
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.Trim(string(body), "\n"), "\n")
			for i := range lines {
				lines[i] = strings.TrimPrefix(lines[i], "\t")
			}
			out[fn.Name.Name] = strings.Join(lines, "\n") + "\n"
		}
	}
	return out
}

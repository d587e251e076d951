package main

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/dora-go/dora/events"
	"github.com/sirupsen/logrus"
	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlptrace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// TestSpansReachACollector: with the ids, parents and times that `dora trace` shows.
func TestSpansReachACollector(t *testing.T) {
	var mu sync.Mutex
	got := map[string]*otlptrace.Span{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		var req coltrace.ExportTraceServiceRequest
		if err := proto.Unmarshal(raw, &req); err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, rs := range req.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				for _, s := range ss.Spans {
					got[s.Name] = s
				}
			}
		}
	}))
	defer srv.Close()
	log := logrus.New()
	log.SetOutput(io.Discard)
	o, err := newOTLP(t.Context(), srv.URL, log)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(1_700_000_000, 0)
	o.observe(events.OrderStream("u"), at, events.DataflowOrdered{UUID: "u", Name: "demo"})
	o.observe(events.DataflowStream("u"), at.Add(time.Millisecond), events.DataflowCreated{UUID: "u"})
	o.observe(events.DataflowStream("u"), at.Add(5*time.Millisecond), events.DataflowStartFailed{Node: "n", Reason: "exited with code 3"})
	o.close(log)
	shown := map[string]string{}
	for _, s := range o.view.Spans() {
		shown[s.Name] = s.Trace + " " + s.ID + " " + s.Parent
	}
	mu.Lock()
	defer mu.Unlock()
	for _, name := range []string{"spawn_dataflow", "start_inner"} {
		s := got[name]
		if s == nil {
			t.Fatalf("no %s in %v", name, got)
		}
		if ids := hex.EncodeToString(s.TraceId) + " " + hex.EncodeToString(s.SpanId) + " " + hex.EncodeToString(s.ParentSpanId); ids != shown[name] {
			t.Errorf("%s has the ids %s, shown are %s", name, ids, shown[name])
		}
		if s.Status.GetCode() != otlptrace.Status_STATUS_CODE_ERROR {
			t.Errorf("%s is no failure", name)
		}
	}
	if s := got["spawn_dataflow"]; s.EndTimeUnixNano-s.StartTimeUnixNano != 5_000_000 {
		t.Errorf("it took %d ns", s.EndTimeUnixNano-s.StartTimeUnixNano)
	}
	if _, err := newOTLP(t.Context(), "localhost:4318", log); err == nil {
		t.Error("an endpoint without a scheme was taken")
	}
}

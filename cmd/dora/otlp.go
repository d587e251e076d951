package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/dora-go/dora/actors"
	"github.com/dora-go/dora/events"
	"github.com/dora-go/dora/transport/ws"
	"github.com/sirupsen/logrus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// otlp sends spans to an OpenTelemetry collector as they end. A collector that is away
// holds nothing up: what does not fit into the exporter's queue is dropped there.
type otlp struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer

	mu   sync.Mutex
	view *actors.Tracer
}

// newOTLP makes an exporter to an endpoint: http://host:4318, or https.
func newOTLP(ctx context.Context, endpoint string, log logrus.FieldLogger) (*otlp, error) {
	if !strings.HasPrefix(endpoint, "http://") && !strings.HasPrefix(endpoint, "https://") {
		return nil, usagef("--otlp-endpoint %s: expected http://HOST:PORT or https://HOST:PORT", endpoint)
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(strings.TrimRight(endpoint, "/")+"/v1/traces"))
	if err != nil {
		return nil, fmt.Errorf("OTLP endpoint %s: %w", endpoint, err)
	}
	o := &otlp{view: actors.NewTracer()}
	o.provider = sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter, sdktrace.WithBatchTimeout(time.Second)), sdktrace.WithIDGenerator(givenIDs{}),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", "dora"), attribute.String("service.version", version))))
	o.tracer = o.provider.Tracer("github.com/dora-go/dora")
	o.view.Done = o.send
	log.Infof("spans are sent to %s", endpoint)
	return o, nil
}

// observe is told of every event of the coordinator's journal.
func (o *otlp) observe(stream string, at time.Time, e events.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.view.See(stream, at, e)
}

func (o *otlp) close(log logrus.FieldLogger) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := o.provider.Shutdown(ctx); err != nil {
		log.Warnf("the last spans were not sent: %v", err)
	}
}

// send hands a span that has ended, with the ids that it has, to the exporter.
func (o *otlp) send(s ws.Span) {
	ids := spanIDs{}
	if !decodeID(ids.trace[:], s.Trace) || !decodeID(ids.span[:], s.ID) {
		return
	}
	ctx := context.WithValue(context.Background(), idsKey{}, ids)
	var parent trace.SpanID
	if decodeID(parent[:], s.Parent) {
		ctx = trace.ContextWithRemoteSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{TraceID: ids.trace, SpanID: parent, TraceFlags: trace.FlagsSampled}))
	}
	attrs := []attribute.KeyValue{attribute.String("process", s.Process)}
	for _, f := range s.Fields {
		attrs = append(attrs, attribute.String(f.Name, f.Value))
	}
	_, span := o.tracer.Start(ctx, s.Name, trace.WithTimestamp(s.Start), trace.WithAttributes(attrs...))
	if s.Error != "" {
		span.SetStatus(codes.Error, s.Error)
	}
	span.End(trace.WithTimestamp(s.End))
}

func decodeID(id []byte, text string) bool {
	raw, err := hex.DecodeString(text)
	return err == nil && copy(id, raw) == len(id) && len(raw) == len(id)
}

// givenIDs takes the ids of a span from its context.
type givenIDs struct{}

type idsKey struct{}

type spanIDs struct {
	trace trace.TraceID
	span  trace.SpanID
}

func (givenIDs) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	ids, _ := ctx.Value(idsKey{}).(spanIDs)
	return ids.trace, ids.span
}

func (givenIDs) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	ids, _ := ctx.Value(idsKey{}).(spanIDs)
	return ids.span
}

package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"banger"
	"banger/internal/api"
)

// An Op is an operation that runs in the daemon, whether or not anybody waits.
type Op[T any] struct {
	ID string
	c  *Client
}

// start asks for an operation and returns it as soon as it runs.
func start[T any](ctx context.Context, c *Client, op string, req any) (*Op[T], error) {
	s, err := call[api.OpStarted](ctx, c, op, req)
	if err != nil {
		return nil, err
	}
	return &Op[T]{ID: s.Op, c: c}, nil
}

// Attach returns the operation id, started by any client, whose result is a T.
func Attach[T any](c *Client, id string) *Op[T] { return &Op[T]{ID: id, c: c} }

// Cancel asks the operation to end: Wait then returns its end, mostly a
// Canceled error, after what it made is undone.
func (o *Op[T]) Cancel(ctx context.Context) error { return o.c.CancelOp(ctx, o.ID) }

// Wait follows the operation to its end and returns its result, or the error
// that it failed with. Each event is given to on (may be nil) once, in order,
// the last one too, in Wait's goroutine; Event.Result is a json.RawMessage. A
// connection that breaks is made again, as long as there is a daemon. When ctx
// ends, Wait returns its error and the operation goes on: see Cancel.
func (o *Op[T]) Wait(ctx context.Context, on func(banger.Event)) (T, error) {
	var result T
	for next, failed := 0, 0; ; {
		from := next
		last, err := o.follow(ctx, &next, on)
		if next > from {
			failed = 0
		}
		switch {
		case last != nil && last.Type == banger.EventDone:
			if err := json.Unmarshal(last.Result, &result); err != nil {
				return result, banger.Errorf(banger.Internal, "decode result of operation %s: %w", o.ID, err)
			}
			return result, nil
		case last != nil && last.Error != nil:
			return result, last.Error
		case last != nil:
			return result, banger.Errorf(banger.Internal, "operation %s failed without a reason", o.ID)
		case errors.Is(err, errBroken) && failed < maxBroken:
			failed++
		case errors.Is(err, errBroken):
			return result, lost(ctx, err)
		case errors.Is(err, ErrNoDaemon):
			return result, banger.Errorf(banger.Internal, "bangerd ended before operation %s did: %w", o.ID, err).
				WithRemedy("banger daemon logs")
		default:
			return result, err
		}
	}
}

// maxBroken is how often in a row a stream may break without an event.
const maxBroken = 3

// errBroken is a stream of events that ended before the operation.
var errBroken = errors.New("stream of events broke off")

// An event is an Event whose Result is left for the one who knows its type.
type event struct {
	banger.Event
	Result json.RawMessage `json:"result"`
}

// follow gives on the events from *next on, which it counts up, and returns
// the last one of the operation.
func (o *Op[T]) follow(ctx context.Context, next *int, on func(banger.Event)) (*event, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+api.OpEventsPath(o.ID, *next), nil)
	if err != nil {
		return nil, err
	}
	resp, err := o.c.send(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	for d := json.NewDecoder(resp.Body); ; {
		var e event
		switch err := d.Decode(&e); {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case errors.Is(err, io.EOF):
			return nil, errBroken
		case err != nil:
			return nil, errors.Join(errBroken, err)
		case e.N != *next:
			return nil, banger.Errorf(banger.Internal, "event %d of operation %s came where %d was due", e.N, o.ID, *next)
		}
		*next++
		if e.Result != nil {
			e.Event.Result = e.Result
		}
		if on != nil {
			on(e.Event)
		}
		if e.Type == banger.EventDone || e.Type == banger.EventFailed {
			return &e, nil
		}
	}
}

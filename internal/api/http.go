package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"banger"
)

// MaxBody bounds the JSON body of a request, bytes.
const MaxBody = 1 << 20

// NDJSON is the content type of a stream of events: one JSON object per line.
const NDJSON = "application/x-ndjson"

// Decode reads the body of r into v, a pointer to a struct. It is strict, so
// that a mistake is told and not taken for a default: unknown fields, anything
// but one object, anything after it and more than MaxBody are refused. No body
// at all is the empty object. Its errors are *banger.Error, Invalid, and name
// the field where there is one.
func Decode(r *http.Request, v any) error {
	body, err := io.ReadAll(io.LimitReader(r.Body, MaxBody+1))
	if err != nil {
		return banger.Errorf(banger.Invalid, "read request: %w", err)
	}
	if len(body) > MaxBody {
		return banger.Errorf(banger.Invalid, "request is larger than %d bytes", MaxBody)
	}
	return decodeObject(body, v)
}

// readErrorBody bounds what a client reads of an answer that is an error.
const readErrorBody = 1 << 20

// ReadError returns the error that an answer which is not 2xx carries. The
// answer of something that is no bangerd is an error that says so.
func ReadError(resp *http.Response) error {
	b, err := io.ReadAll(io.LimitReader(resp.Body, readErrorBody))
	if err != nil {
		return fmt.Errorf("read error of bangerd: %w", err)
	}
	var body ErrorBody
	if err := json.Unmarshal(b, &body); err != nil || body.Error == nil {
		return banger.Errorf(banger.Internal, "bangerd answered %q without an error of its own", resp.Status)
	}
	return body.Error
}

// WriteJSON answers 200 with v.
func WriteJSON(w http.ResponseWriter, v any) { writeJSON(w, http.StatusOK, v) }

// WriteError answers with err as an ErrorBody, under the status of its code.
func WriteError(w http.ResponseWriter, err error) {
	e := banger.AsError(err)
	writeJSON(w, StatusOf(e.Code), ErrorBody{Error: e})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil { // a type of ours that has no JSON form
		status = http.StatusInternalServerError
		b, _ = json.Marshal(ErrorBody{Error: banger.AsError(fmt.Errorf("encode answer: %w", err))})
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(b, '\n')) // a client that has gone away is not our concern
}

// StatusOf is the HTTP status of an error's code, for clients that are not
// banger's own: those read the code.
func StatusOf(c banger.Code) int {
	switch c {
	case banger.Invalid:
		return http.StatusBadRequest
	case banger.NotFound:
		return http.StatusNotFound
	case banger.Exists, banger.WrongState, banger.Busy, banger.Canceled:
		return http.StatusConflict
	case banger.NeedsRoot:
		return http.StatusForbidden
	case banger.HostUnready:
		return http.StatusServiceUnavailable
	case banger.TimedOut:
		return http.StatusGatewayTimeout
	case banger.Lost:
		return http.StatusBadGateway
	}
	return http.StatusInternalServerError
}

// An EventWriter answers a request with events, each sent at once.
type EventWriter struct {
	w  *json.Encoder
	rc *http.ResponseController
}

// NewEventWriter begins the answer: the client learns at once that its request
// was accepted, however long the first event takes.
func NewEventWriter(w http.ResponseWriter) (*EventWriter, error) {
	w.Header().Set("Content-Type", NDJSON)
	w.WriteHeader(http.StatusOK)
	rc := http.NewResponseController(w)
	if err := rc.Flush(); err != nil {
		return nil, fmt.Errorf("send events: %w", err)
	}
	return &EventWriter{w: json.NewEncoder(w), rc: rc}, nil
}

// Write sends e, a banger.Event or banger.VMEvent. An error means that the
// client is gone.
func (w *EventWriter) Write(e any) error {
	return errors.Join(w.w.Encode(e), w.rc.Flush())
}

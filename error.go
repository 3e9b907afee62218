package banger

import (
	"context"
	"errors"
	"fmt"
)

// An Error is what a user is told: one line that says what failed, one that
// says what to do, and where the log is. It crosses the socket as it is.
// Anything that is not an Error is Internal to the user and in full in the log.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`          // lower case, the thing that failed, no trailing stop
	Remedy  string `json:"remedy,omitempty"` // what to do, best a command
	Log     string `json:"log,omitempty"`    // path of the log that has more
	Err     error  `json:"-"`                // the cause, for errors.Is and the daemon's log
}

// A Code is the class of an Error; the CLI's exit code follows from it.
type Code string

const (
	Invalid     Code = "invalid"     // the request makes no sense; exit 2
	NotFound    Code = "not_found"   // no such thing; exit 3
	Exists      Code = "exists"      // there already; exit 4
	WrongState  Code = "wrong_state" // not possible now; exit 4
	Busy        Code = "busy"        // something else is under way; exit 4
	HostUnready Code = "host"        // the host lacks something; exit 5
	NeedsRoot   Code = "needs_root"  // banger-root is needed and not there; exit 5
	Canceled    Code = "canceled"    // the user asked to stop; exit 1
	TimedOut    Code = "timeout"     // a deadline passed; exit 1
	Lost        Code = "lost"        // what was begun broke off, its fate is unknown; exit 1
	Internal    Code = "internal"    // everything else; exit 1
)

// Exit is the exit code of a program that ends with an error of this code.
func (c Code) Exit() int {
	switch c {
	case Invalid:
		return 2
	case NotFound:
		return 3
	case Exists, WrongState, Busy:
		return 4
	case HostUnready, NeedsRoot:
		return 5
	}
	return 1
}

func (e *Error) Error() string { return e.Message }
func (e *Error) Unwrap() error { return e.Err }

// Errorf returns an Error of code c; %w in format sets its cause.
func Errorf(c Code, format string, a ...any) *Error {
	w := fmt.Errorf(format, a...)
	return &Error{Code: c, Message: w.Error(), Err: errors.Unwrap(w)}
}

// WithRemedy sets what the user can do, and returns e.
func (e *Error) WithRemedy(format string, a ...any) *Error {
	e.Remedy = fmt.Sprintf(format, a...)
	return e
}

// WithLog sets where the log is, and returns e.
func (e *Error) WithLog(path string) *Error { e.Log = path; return e }

// AsError returns err as an Error: the first one in its tree with the message
// of the whole, so that wrapping adds context and loses neither code nor
// remedy; else Canceled, TimedOut or Internal. nil stays nil.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	switch {
	case errors.As(err, &e):
		c := *e
		c.Message, c.Err = err.Error(), err
		return &c
	case errors.Is(err, context.Canceled):
		return &Error{Code: Canceled, Message: err.Error(), Err: err}
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Code: TimedOut, Message: err.Error(), Err: err}
	}
	return &Error{Code: Internal, Message: err.Error(), Err: err}
}

// CodeOf returns the code that AsError would give err; "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	return AsError(err).Code
}

package firecracker

import (
	"io"
	"log/slog"

	"github.com/sirupsen/logrus"

	"banger/internal/host"
)

// bridge is a logger for the SDK, all of which is debug to us.
func bridge(to *slog.Logger, launch string) *logrus.Entry {
	l := logrus.New()
	l.SetOutput(io.Discard)
	l.SetLevel(logrus.DebugLevel)
	l.AddHook(hook{to.With("launch", launch)})
	return logrus.NewEntry(l)
}

type hook struct{ to *slog.Logger }

func (hook) Levels() []logrus.Level { return logrus.AllLevels }

func (h hook) Fire(e *logrus.Entry) error {
	h.to.Debug("firecracker-go-sdk", "said", host.Escape(e.Message), "level", e.Level.String())
	return nil
}

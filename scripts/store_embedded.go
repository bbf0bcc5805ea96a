package scripts

import (
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/voltageems/voltage/scripts/internal/embedded"
)

// storeOpenEmbedded starts the in-process store.
//
// Readers of Pub/Sub have to know: miniredis delivers a message to each
// subscriber before PUBLISH returns. The connections of package embedded take it
// into memory, so that a subscriber which does not read cannot stop the store;
// once it reads nothing for 2 s with more than 1 MiB waiting it loses its
// connection, go-redis subscribes anew, and what was published in between is
// lost, as on a Redis server. Messages from SUBSCRIBE and PSUBSCRIBE on one
// connection may change their order among each other.
func storeOpenEmbedded(log *slog.Logger) (*Store, error) {
	server, err := embedded.New()
	if err != nil {
		return nil, err
	}
	o := &redis.Options{
		Addr:                     "embedded",
		Dialer:                   server.Dial,
		Protocol:                 2,
		MaxRetries:               -1,
		DialerRetries:            1,
		ReadTimeout:              10 * time.Second, // a busy gateway may be slow, but there is no network to fail
		WriteTimeout:             10 * time.Second,
		ContextTimeoutEnabled:    true,
		DisableIdentity:          true,
		PipelinePoolSize:         -1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	log.Warn("the embedded store keeps nothing across restarts: use a managed store or a Redis URL to keep the data")
	return &Store{Client: redis.NewClient(o), Kind: StoreEmbedded, Address: "embedded", stop: server.Close}, nil
}

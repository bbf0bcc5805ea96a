package scripts

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Timeouts of the store's own clients, unless the URL sets others. They are
// short, because a controller has to notice a lost store within seconds.
const (
	storeDialTimeout = 3 * time.Second
	storeReadTimeout = 3 * time.Second
)

// storeTarget is a parsed URL: exactly one of the options is set.
type storeTarget struct {
	address  string // for logs and errors: no user, password or query
	single   *redis.Options
	failover *redis.FailoverOptions
	cluster  *redis.ClusterOptions
}

// storeParseURL reads a URL without any I/O. Its errors never contain the user
// information; go-redis' and net/url's own would.
func storeParseURL(raw string, t StoreTLS) (*storeTarget, error) {
	p, err := storeSplitURL(raw)
	if err != nil {
		return nil, err
	}
	secure := strings.HasPrefix(p.scheme, "rediss")
	if !secure && t != (StoreTLS{}) {
		return nil, fmt.Errorf("%w: TLS is configured, but %s does not use it: use rediss://, rediss-sentinel:// or rediss-cluster://",
			ErrStoreConfig, p.address())
	}
	if (t.CertFile == "") != (t.KeyFile == "") {
		return nil, fmt.Errorf("%w: a TLS client certificate needs both CertFile and KeyFile", ErrStoreConfig)
	}
	target := &storeTarget{address: p.address()}
	switch strings.TrimPrefix(strings.TrimPrefix(p.scheme, "rediss"), "redis") {
	case "", "unix":
		if len(p.hosts) > 1 {
			return nil, fmt.Errorf("%w: %s: several hosts need redis-cluster:// or redis-sentinel://", ErrStoreConfig, p.address())
		}
		target.single, err = redis.ParseURL(p.join(p.scheme, "6379", p.path, p.query))
	case "-cluster":
		if strings.Trim(p.path, "/0") != "" {
			return nil, fmt.Errorf("%w: %s: a cluster has no databases, leave the path away", ErrStoreConfig, p.address())
		}
		target.cluster, err = redis.ParseClusterURL(p.join(p.plain(), "6379", "", p.query))
	case "-sentinel":
		target.failover, err = p.failover()
	default:
		err = errors.New("unknown scheme; want redis, rediss, unix, redis-sentinel, rediss-sentinel, redis-cluster or rediss-cluster")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrStoreConfig, p.address(), err)
	}
	return target, nil
}

// storeURL is a store URL taken apart. net/url does not accept several hosts.
type storeURL struct {
	scheme string
	user   *url.Userinfo
	hosts  []string
	path   string
	query  url.Values
}

func storeSplitURL(raw string) (*storeURL, error) {
	// What is wrong cannot be quoted: it may be a piece of a password.
	bad := fmt.Errorf("%w: the URL cannot be read; percent-encode special characters in user and password", ErrStoreConfig)
	scheme, rest, ok := strings.Cut(raw, "://")
	scheme = strings.ToLower(scheme)
	if !ok || scheme == "" || strings.ContainsAny(scheme, "@:/") || strings.Contains(raw, "#") {
		return nil, bad
	}
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	user, hosts := "", authority
	if i := strings.LastIndex(authority, "@"); i >= 0 {
		user, hosts = authority[:i+1], authority[i+1:]
	}
	// One URL per host, so that net/url checks each of them.
	p := &storeURL{scheme: scheme}
	for host := range strings.SplitSeq(hosts, ",") {
		u, err := url.Parse(scheme + "://" + user + host + tail)
		if err != nil || scheme != "unix" && strings.Contains(u.Path, "@") {
			return nil, bad
		}
		query, err := url.ParseQuery(u.RawQuery)
		if err != nil {
			return nil, bad
		}
		if host == "" && scheme != "unix" {
			return nil, fmt.Errorf("%w: the URL has an empty host", ErrStoreConfig)
		}
		p.user, p.path, p.query = u.User, u.Path, query
		p.hosts = append(p.hosts, u.Host)
	}
	return p, nil
}

// address is the URL without secrets. Query parameters may hold some.
func (p *storeURL) address() string {
	u := url.URL{Path: p.path}
	return p.scheme + "://" + strings.Join(p.hosts, ",") + u.EscapedPath()
}

// plain is the scheme that go-redis knows: redis or rediss.
func (p *storeURL) plain() string {
	scheme, _, _ := strings.Cut(p.scheme, "-")
	return scheme
}

func (p *storeURL) failover() (*redis.FailoverOptions, error) {
	f := strings.Split(strings.Trim(p.path, "/"), "/")
	if f[0] == "" || len(f) > 2 {
		return nil, errors.New("the path must be /<name of the master> or /<name of the master>/<db>")
	}
	q := url.Values{}
	for name, values := range p.query {
		q[name] = values
	}
	q.Set("master_name", f[0])
	if len(f) == 2 {
		q.Set("db", f[1])
	}
	// go-redis takes the Sentinels' login from the user information and that of
	// the data nodes from the query; here it is the other way round.
	q.Del("username")
	q.Del("password")
	if p.user != nil {
		password, _ := p.user.Password()
		q.Set("username", p.user.Username())
		q.Set("password", password)
	}
	sentinel := *p
	sentinel.user = nil
	if name, password := q.Get("sentinel_username"), q.Get("sentinel_password"); name != "" || password != "" {
		sentinel.user = url.UserPassword(name, password)
	}
	q.Del("sentinel_username")
	q.Del("sentinel_password")
	return redis.ParseFailoverURL(sentinel.join(p.plain(), "26379", "", q))
}

// join builds the URL for go-redis, which takes further hosts as addr=.
func (p *storeURL) join(scheme, port, path string, q url.Values) string {
	query := url.Values{}
	for name, values := range q {
		query[name] = values
	}
	for _, host := range p.hosts[1:] {
		query.Add("addr", storeHostPort(host, port))
	}
	u := url.URL{Scheme: scheme, User: p.user, Path: path, RawQuery: query.Encode()}
	if scheme == "unix" {
		return u.String()
	}
	u.Host = storeHostPort(p.hosts[0], port)
	return u.String()
}

func storeHostPort(host, port string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), port)
}

// storeOpenURL makes the client; nothing is dialled yet.
func storeOpenURL(cfg StoreConfig) (*Store, error) {
	t, err := storeParseURL(cfg.URL, cfg.TLS)
	if err != nil {
		return nil, err
	}
	s := &Store{Kind: StoreURL, Address: t.address}
	switch {
	case t.single != nil:
		o := t.single
		if o.TLSConfig, err = cfg.TLS.config(o.TLSConfig); err != nil {
			return nil, err
		}
		storeTune(&o.Protocol, &o.MaxRetries, &o.DialerRetries, &o.PipelinePoolSize, &o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout)
		o.ContextTimeoutEnabled, o.DisableIdentity = true, true
		o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
		s.Client = redis.NewClient(o)
	case t.cluster != nil:
		o := t.cluster
		if o.TLSConfig, err = cfg.TLS.config(o.TLSConfig); err != nil {
			return nil, err
		}
		storeTune(&o.Protocol, &o.MaxRetries, &o.DialerRetries, &o.PipelinePoolSize, &o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout)
		o.ContextTimeoutEnabled, o.DisableIdentity = true, true
		o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
		// Reads must see what was just written: never from a replica.
		o.ReadOnly, o.RouteByLatency, o.RouteRandomly = false, false, false
		// After a fail-over the client goes on asking the node that is gone, for
		// the network's error alone does not make it look who has the slot now; by
		// default it does that once a minute.
		if o.ClusterStateReloadInterval == 0 {
			o.ClusterStateReloadInterval = clusterLook
		}
		s.Client = redis.NewClusterClient(o)
	default:
		o := t.failover
		if o.TLSConfig, err = cfg.TLS.config(o.TLSConfig); err != nil {
			return nil, err
		}
		storeTune(&o.Protocol, &o.MaxRetries, &o.DialerRetries, &o.PipelinePoolSize, &o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout)
		o.ContextTimeoutEnabled, o.DisableIdentity = true, true
		o.ReplicaOnly, o.RouteByLatency, o.RouteRandomly = false, false, false
		s.Client = redis.NewFailoverClient(o)
	}
	return s, nil
}

// clusterLook is how often a cluster's client looks which node has which slot.
const clusterLook = time.Second

// storeTune sets what all own clients have in common. What the URL sets stays,
// except for retries: a retry belongs to the caller, who knows what is
// idempotent.
func storeTune(protocol, retries, dialRetries, pipelinePool *int, dial, read, write *time.Duration) {
	*retries = -1
	if *protocol == 0 {
		*protocol = 2 // push messages of protocol 3 have no use here
	}
	if *dialRetries == 0 {
		*dialRetries = 1 // five by default: an unreachable host would take 5 time-outs
	}
	if *pipelinePool == 0 {
		*pipelinePool = -1 // its connections would take 256 KiB of buffers each
	}
	if *dial == 0 {
		*dial = storeDialTimeout
	}
	if *read == 0 {
		*read = storeReadTimeout
	}
	if *write == 0 {
		*write = *read
	}
}

// config completes the TLS configuration that go-redis made of the URL; nil
// stays nil.
func (t StoreTLS) config(c *tls.Config) (*tls.Config, error) {
	if c == nil {
		return nil, nil
	}
	c.MinVersion = tls.VersionTLS12
	c.ServerName = t.ServerName // empty: crypto/tls checks the host that is dialled
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("%w: TLS CAFile: %w", ErrStoreConfig, err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%w: TLS CAFile %s holds no PEM certificate", ErrStoreConfig, t.CAFile)
		}
	}
	if t.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("%w: TLS client certificate %s: %w", ErrStoreConfig, t.CertFile, err)
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c, nil
}

// The broker that a team would write in Go: Execute of hotline.v1 on grpc-go
// and net/http, for comparison with hotlined (P14).
//
//	peer_go ADDRESS CA_FILE
//
// It has the same contract for Execute: URL, method, headers, body, timeout and
// max_response_bytes of the request; status, headers, body, trailers and
// receipt of the answer. One http.Transport pools the TLS connections and
// retries on a reused connection that turns out to be closed. There are no
// leases, retry policies, egress rules, metrics or details of errors, all of
// which hotlined has: what is missing here is in the peer's favour. So are
// these settings:
//   - as many idle connections as calls run at the same time, so that none is
//     dialled twice;
//   - no transparent compression;
//   - addresses are formatted once for each connection, as is the rest of its
//     description;
//   - the garbage collector runs at four times the heap that is in use, instead
//     of twice.
//
// Prints the port it listens on.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/golang/protobuf/ptypes/duration"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	v1 "hotline/v1"
)

const (
	maxBody         = 3 << 20
	maxConnections  = 256
	defaultDeadline = 30 * time.Second
)

// A connection to an upstream, and the parts of its description that last.
type upstreamConn struct {
	net.Conn
	id            uint64
	ready         time.Time
	remote, local string
	calls         uint64 // Atomic.
}

type broker struct {
	v1.UnimplementedBrokerServer
	transport *http.Transport
	lastID    uint64 // Atomic.
}

func newBroker(roots *x509.CertPool) *broker {
	b := &broker{}
	dialer := net.Dialer{Timeout: 5 * time.Second}
	b.transport = &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (
			net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &upstreamConn{
				Conn:   conn,
				id:     atomic.AddUint64(&b.lastID, 1),
				ready:  time.Now(),
				remote: conn.RemoteAddr().String(),
				local:  conn.LocalAddr().String(),
			}, nil
		},
		TLSClientConfig:     &tls.Config{RootCAs: roots},
		TLSHandshakeTimeout: 10 * time.Second,
		ForceAttemptHTTP2:   true,
		DisableCompression:  true,
		MaxConnsPerHost:     maxConnections,
		MaxIdleConnsPerHost: maxConnections,
		IdleConnTimeout:     45 * time.Second,
	}
	return b
}

func durationOf(d time.Duration) *duration.Duration {
	return &duration.Duration{Seconds: int64(d / time.Second),
		Nanos: int32(d % time.Second)}
}

func httpRequest(ctx context.Context, in *v1.ExecuteRequest) (
	*http.Request, error) {
	target, err := url.Parse(in.Url)
	if err != nil || target.Host == "" || target.User != nil ||
		target.Fragment != "" ||
		(target.Scheme != "https" && target.Scheme != "http") {
		return nil, status.Error(codes.InvalidArgument, "BAD_URL")
	}
	var body io.Reader
	if len(in.Body) > maxBody {
		return nil, status.Error(codes.InvalidArgument, "BODY_TOO_LARGE")
	} else if len(in.Body) > 0 {
		body = bytes.NewReader(in.Body)
	}
	request, err := http.NewRequestWithContext(ctx, in.Method, in.Url, body)
	if err != nil || in.Method == http.MethodConnect {
		return nil, status.Error(codes.InvalidArgument, "BAD_METHOD")
	}
	for _, header := range in.Headers {
		request.Header.Add(header.Name, string(header.Value))
	}
	return request, nil
}

func headersOf(from http.Header) []*v1.Header {
	headers := make([]*v1.Header, 0, len(from))
	for name, values := range from {
		name = strings.ToLower(name)
		for _, value := range values {
			headers = append(headers,
				&v1.Header{Name: name, Value: []byte(value)})
		}
	}
	return headers
}

// Reads at most `limit` bytes (0: maxBody, and more is an error).
func readBody(response *http.Response, limit int64) (
	body []byte, truncated bool, err error) {
	most := limit
	if most <= 0 || most > maxBody {
		most = maxBody
	}
	length := response.ContentLength // That of a GET, if it was a HEAD.
	if length >= 0 && length <= most &&
		response.Request.Method != http.MethodHead {
		body = make([]byte, length)
		_, err = io.ReadFull(response.Body, body)
		return body, false, err
	}
	body, err = io.ReadAll(io.LimitReader(response.Body, most+1))
	if int64(len(body)) <= most {
		return body, false, err
	}
	if limit <= 0 {
		return nil, false,
			status.Error(codes.ResourceExhausted, "RESPONSE_TOO_LARGE")
	}
	return body[:most], true, err
}

func connectionOf(got *httptrace.GotConnInfo, response *http.Response,
	now time.Time) *v1.ConnectionInfo {
	info := &v1.ConnectionInfo{Protocol: "http/1.1", Reused: got.Reused}
	if response.ProtoMajor == 2 {
		info.Protocol = "h2"
	}
	conn := got.Conn
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	if upstream, ok := conn.(*upstreamConn); ok {
		info.ConnectionId = upstream.id
		info.RemoteAddress = upstream.remote
		info.LocalAddress = upstream.local
		info.Calls = atomic.AddUint64(&upstream.calls, 1) - 1
		info.Age = durationOf(now.Sub(upstream.ready))
	}
	if state := response.TLS; state != nil {
		info.TlsVersion = "TLSv1.3"
		if state.Version == tls.VersionTLS12 {
			info.TlsVersion = "TLSv1.2"
		}
		info.TlsCipher = tls.CipherSuiteName(state.CipherSuite)
		info.TlsResumed = state.DidResume
	}
	return info
}

func failure(ctx context.Context, err error) error {
	if _, ok := status.FromError(err); ok {
		return err
	}
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &unknown) {
		return status.Error(codes.FailedPrecondition, "TLS_VERIFY_FAILED")
	}
	return status.Error(codes.Unavailable, err.Error())
}

func (b *broker) Execute(ctx context.Context, in *v1.ExecuteRequest) (
	*v1.ExecuteResponse, error) {
	begin := time.Now()
	limit := defaultDeadline
	if in.Timeout != nil {
		limit = time.Duration(in.Timeout.Seconds)*time.Second +
			time.Duration(in.Timeout.Nanos)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var got httptrace.GotConnInfo
	var lent, firstByte time.Time
	trace := &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) {
			got, lent = info, time.Now()
		},
		GotFirstResponseByte: func() { firstByte = time.Now() },
	}
	request, err := httpRequest(httptrace.WithClientTrace(ctx, trace), in)
	if err != nil {
		return nil, err
	}
	response, err := b.transport.RoundTrip(request)
	if err != nil {
		return nil, failure(ctx, err)
	}
	defer response.Body.Close()
	body, truncated, err := readBody(response, in.MaxResponseBytes)
	if err != nil {
		return nil, failure(ctx, err)
	}
	now := time.Now()
	return &v1.ExecuteResponse{
		Status:    int32(response.StatusCode),
		Headers:   headersOf(response.Header),
		Body:      body,
		Trailers:  headersOf(response.Trailer),
		Truncated: truncated,
		Receipt: &v1.Receipt{
			Connection: connectionOf(&got, response, now),
			Attempts:   1,
			Timings: &v1.Timings{
				Total:     durationOf(now.Sub(begin)),
				Wait:      durationOf(lent.Sub(begin)),
				FirstByte: durationOf(firstByte.Sub(lent)),
				Transfer:  durationOf(now.Sub(firstByte)),
			},
		},
	}, nil
}

func serve(address, caFile string) error {
	debug.SetGCPercent(300)
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return errors.New("no certificate in " + caFile)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server := grpc.NewServer(grpc.MaxConcurrentStreams(1024))
	v1.RegisterBrokerServer(server, newBroker(roots))
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-signals
		server.Stop()
	}()
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	return server.Serve(listener)
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: peer_go ADDRESS CA_FILE")
	}
	if err := serve(os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

// Java's client: JavaClient TRANSPORT ADDRESS [CA CERT KEY].
//
// Prints "pass CASE" or "fail CASE: why" for each case.
import com.google.common.util.concurrent.ListenableFuture;
import com.google.protobuf.ByteString;
import hotline.conformance.AbsentGrpc;
import hotline.conformance.Answer;
import hotline.conformance.Ask;
import hotline.conformance.ConformanceGrpc;
import hotline.conformance.Empty;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.GrpcSslContexts;
import io.grpc.netty.NettyChannelBuilder;
import io.grpc.stub.AbstractStub;
import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientResponseObserver;
import io.grpc.stub.MetadataUtils;
import io.grpc.stub.StreamObserver;
import java.io.File;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.TreeMap;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Callable;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;

public final class JavaClient {
  private static final List<Integer> SIZES = List.of(31415, 9, 2653, 58979);
  private static final int ALL_SIZES = SIZES.stream().mapToInt(i -> i).sum();
  private static final String SPECIAL_TEXT = "\t\n100 % é \r\n ☺ 😈\t\n";
  // No case takes long; a call that hangs fails.
  private static final int LIMIT_SECONDS = 30;

  private interface Case {
    void run() throws Exception;
  }

  // What a stream has been answered; a status is its last event.
  private static final class Answers
      implements ClientResponseObserver<Ask, Answer> {
    private final BlockingQueue<Object> events = new LinkedBlockingQueue<>();
    ClientCallStreamObserver<Ask> requests;

    @Override
    public void beforeStart(ClientCallStreamObserver<Ask> stream) {
      requests = stream;
    }

    @Override
    public void onNext(Answer answer) {
      events.add(answer);
    }

    @Override
    public void onError(Throwable error) {
      events.add(Status.fromThrowable(error));
    }

    @Override
    public void onCompleted() {
      events.add(Status.OK);
    }

    private Object next() throws InterruptedException {
      return Objects.requireNonNull(
          events.poll(LIMIT_SECONDS, TimeUnit.SECONDS), "nothing comes");
    }

    Answer answer() throws InterruptedException {
      Object event = next();
      check(event instanceof Answer, true, "an answer, not " + event);
      return (Answer) event;
    }

    Status status() throws InterruptedException {
      Object event = next();
      check(event instanceof Status, true, "a status, not an answer");
      return (Status) event;
    }

    void checkOk() throws InterruptedException {
      check(status().getCode(), Status.Code.OK, "the status");
    }
  }

  private final ManagedChannel channel;

  private JavaClient(ManagedChannel channel) {
    this.channel = channel;
  }

  private static <T extends AbstractStub<T>> T limited(T stub) {
    return stub.withDeadlineAfter(LIMIT_SECONDS, TimeUnit.SECONDS);
  }

  private ConformanceGrpc.ConformanceBlockingStub blocking() {
    return limited(ConformanceGrpc.newBlockingStub(channel));
  }

  private ConformanceGrpc.ConformanceStub streaming() {
    return limited(ConformanceGrpc.newStub(channel));
  }

  private static ByteString body(int size) {
    byte[] bytes = new byte[size];
    for (int i = 0; i < size; ++i) {
      bytes[i] = (byte) (i % 251);
    }
    return ByteString.copyFrom(bytes);
  }

  private static Ask ask(int size, Integer... sizes) {
    return Ask.newBuilder().setBody(body(size)).addAllSizes(Arrays.asList(sizes)).build();
  }

  private static Ask refused(Status.Code code, String text) {
    return Ask.newBuilder().setStatus(code.value()).setStatusText(text).build();
  }

  private static void check(Object seen, Object expected, String what) {
    if (!Objects.equals(seen, expected)) {
      String text = seen + " instead of " + expected;
      throw new AssertionError(what + ": " + text.substring(0, Math.min(200, text.length())));
    }
  }

  private static void checkStatus(Status seen, Status.Code code, String text) {
    check(seen.getCode(), code, "the status (" + seen + ")");
    check(seen.getDescription(), text, "its text");
  }

  private static StatusRuntimeException refusal(Callable<?> call) throws Exception {
    try {
      call.call();
    } catch (StatusRuntimeException error) {
      return error;
    }
    throw new AssertionError("the call has not failed");
  }

  private static void checkRefused(Status.Code code, Callable<?> call) throws Exception {
    Status seen = refusal(call).getStatus();
    check(seen.getCode(), code, "the status (" + seen + ")");
  }

  private void emptyUnary() {
    check(blocking().nothing(Empty.getDefaultInstance()), Empty.getDefaultInstance(), "answer");
  }

  private Answer largeUnary(ConformanceGrpc.ConformanceBlockingStub stub) {
    Answer answer = stub.unary(ask(271828, 314159));
    check(answer.getBody(), body(314159), "the answer's body");
    check(answer.getReceivedBytes(), 271828L, "the request's body");
    return answer;
  }

  private void manyCalls() throws Exception {
    List<ListenableFuture<Answer>> calls = new ArrayList<>();
    for (int i = 0; i < 100; ++i) {
      calls.add(limited(ConformanceGrpc.newFutureStub(channel)).unary(ask(i, 1000 + i)));
    }
    for (int i = 0; i < 100; ++i) {
      Answer answer = calls.get(i).get();
      check(answer.getReceivedBytes(), (long) i, "the request's body");
      check(answer.getBody(), body(1000 + i), "the answer's body");
    }
  }

  private void clientStream() throws Exception {
    Answers answers = new Answers();
    StreamObserver<Ask> requests = streaming().clientStream(answers);
    for (int size : SIZES) {
      requests.onNext(ask(size));
    }
    requests.onCompleted();
    check(answers.answer().getReceivedBytes(), (long) ALL_SIZES, "the requests' bodies");
    answers.checkOk();
  }

  private void serverStream() {
    Iterator<Answer> answers = blocking().serverStream(ask(0, SIZES.toArray(new Integer[0])));
    for (int size : SIZES) {
      check(answers.next().getBody(), body(size), "an answer's body");
    }
    check(answers.hasNext(), false, "more answers");
  }

  private Answer pingPong(ConformanceGrpc.ConformanceStub stub) throws Exception {
    Answers answers = new Answers();
    StreamObserver<Ask> requests = stub.duplex(answers);
    long sent = 0;
    Answer answer = null;
    for (int size : SIZES) {
      sent += size;
      requests.onNext(ask(size, size));
      answer = answers.answer();
      check(answer.getBody(), body(size), "an answer's body");
      check(answer.getReceivedBytes(), sent, "the requests' bodies");
    }
    requests.onCompleted();
    answers.checkOk();
    return answer;
  }

  // More in each direction than a window holds.
  private void duplex() throws Exception {
    Answers answers = new Answers();
    StreamObserver<Ask> requests = streaming().duplex(answers);
    for (int i = 0; i < 50; ++i) {
      requests.onNext(ask(100000, 50000, 50000));
    }
    requests.onCompleted();
    ByteString expected = body(50000);
    Answer answer = null;
    for (int i = 0; i < 100; ++i) {
      answer = answers.answer();
      check(answer.getBody(), expected, "an answer's body");
    }
    check(answer.getReceivedBytes(), 5000000L, "the requests' bodies");
    answers.checkOk();
  }

  private void emptyStream() throws Exception {
    Answers answers = new Answers();
    streaming().duplex(answers).onCompleted();
    answers.checkOk();
  }

  private void cancelAfterBegin() throws Exception {
    Answers answers = new Answers();
    streaming().clientStream(answers);
    while (blocking().count(Empty.getDefaultInstance()).getRunning() == 0) {}
    answers.requests.cancel("cancelled", null);
    check(answers.status().getCode(), Status.Code.CANCELLED, "the status");
  }

  private void cancelAfterFirstAnswer() throws Exception {
    Answers answers = new Answers();
    streaming().duplex(answers).onNext(ask(1, 1));
    check(answers.answer().getBody(), body(1), "the answer's body");
    answers.requests.cancel("cancelled", null);
    check(answers.status().getCode(), Status.Code.CANCELLED, "the status");
  }

  private void deadline() throws Exception {
    Ask ask = Ask.newBuilder().setDelayMs(60000).build();
    checkRefused(
        Status.Code.DEADLINE_EXCEEDED,
        () -> blocking().withDeadlineAfter(500, TimeUnit.MILLISECONDS).unary(ask));
  }

  private void statusCodes() throws Exception {
    for (Status.Code code : Status.Code.values()) {
      if (code != Status.Code.OK) {
        String text = "text " + code.value();
        Status seen = refusal(() -> blocking().unary(refused(code, text))).getStatus();
        checkStatus(seen, code, text);
      }
    }
  }

  private void statusText() throws Exception {
    Ask ask = refused(Status.Code.UNKNOWN, SPECIAL_TEXT);
    checkStatus(
        refusal(() -> blocking().unary(ask)).getStatus(), Status.Code.UNKNOWN, SPECIAL_TEXT);
  }

  private void statusBeforeHalfClose() throws Exception {
    Answers answers = new Answers();
    StreamObserver<Ask> requests = streaming().duplex(answers);
    requests.onNext(ask(1, 1));
    check(answers.answer().getBody(), body(1), "the answer's body");
    requests.onNext(refused(Status.Code.FAILED_PRECONDITION, "enough"));
    checkStatus(answers.status(), Status.Code.FAILED_PRECONDITION, "enough");
  }

  private void statusDetails() throws Exception {
    Ask ask = refused(Status.Code.INVALID_ARGUMENT, "bad").toBuilder().setDetails(true).build();
    StatusRuntimeException error = refusal(() -> blocking().unary(ask));
    check(error.getStatus().getCode(), Status.Code.INVALID_ARGUMENT, "the status");
    byte[] details = error.getTrailers().get(binaryKey("grpc-status-details-bin"));
    check(ByteString.copyFrom(details).toString("ISO-8859-1").contains("BAD_MESSAGE"), true,
        "the details");
  }

  private void unknownMethod() throws Exception {
    checkRefused(
        Status.Code.UNIMPLEMENTED, () -> blocking().unserved(Empty.getDefaultInstance()));
  }

  private void unknownService() throws Exception {
    checkRefused(
        Status.Code.UNIMPLEMENTED,
        () -> limited(AbsentGrpc.newBlockingStub(channel)).nothing(Empty.getDefaultInstance()));
  }

  private static Metadata.Key<String> textKey(String name) {
    return Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER);
  }

  private static Metadata.Key<byte[]> binaryKey(String name) {
    return Metadata.Key.of(name, Metadata.BINARY_BYTE_MARSHALLER);
  }

  private void metadata() {
    Map<String, List<String>> texts = new TreeMap<>();
    texts.put("text", List.of("a b, c"));
    texts.put("two", List.of("1", "2"));
    byte[] all = new byte[256];
    for (int i = 0; i < all.length; ++i) {
      all[i] = (byte) i;
    }
    Map<String, byte[]> binaries = Map.of("bytes-bin", all, "none-bin", new byte[0]);
    Metadata sent = new Metadata();
    for (String prefix : List.of("head-", "trail-")) {
      texts.forEach((name, values) -> values.forEach(v -> sent.put(textKey(prefix + name), v)));
      binaries.forEach((name, value) -> sent.put(binaryKey(prefix + name), value));
    }
    AtomicReference<Metadata> head = new AtomicReference<>();
    AtomicReference<Metadata> trailers = new AtomicReference<>();
    blocking()
        .withInterceptors(
            MetadataUtils.newAttachHeadersInterceptor(sent),
            MetadataUtils.newCaptureMetadataInterceptor(head, trailers))
        .metadata(ask(0));
    for (Map.Entry<String, Metadata> each :
        Map.of("head-", head.get(), "trail-", trailers.get()).entrySet()) {
      String prefix = each.getKey();
      texts.forEach((name, values) -> {
        List<String> seen = new ArrayList<>();
        each.getValue().getAll(textKey(prefix + name)).forEach(seen::add);
        check(seen, values, prefix + name);
      });
      binaries.forEach((name, value) -> check(
          Arrays.equals(each.getValue().get(binaryKey(prefix + name)), value), true,
          prefix + name));
    }
  }

  private void gzip() throws Exception {
    check(largeUnary(blocking().withCompression("gzip")).getEncoding(), "gzip", "the encoding");
    check(pingPong(streaming().withCompression("gzip")).getEncoding(), "gzip", "the encoding");
  }

  private void oversizedMessage() throws Exception {
    checkRefused(Status.Code.RESOURCE_EXHAUSTED, () -> blocking().unary(ask(9 << 20)));
    emptyUnary();
  }

  private void oversizedMetadata() throws Exception {
    Metadata sent = new Metadata();
    sent.put(textKey("large"), "x".repeat(20480));
    checkRefused(
        Status.Code.RESOURCE_EXHAUSTED,
        () -> blocking()
            .withInterceptors(MetadataUtils.newAttachHeadersInterceptor(sent))
            .nothing(Empty.getDefaultInstance()));
    emptyUnary();
  }

  private boolean passes(String name, Case run) {
    try {
      run.run();
      System.out.println("pass " + name);
      return true;
    } catch (Exception | AssertionError error) {
      System.out.println("fail " + name + ": " + error.toString().replaceAll("[\r\n]", " "));
      return false;
    }
  }

  private boolean runAll() {
    boolean passed = passes("empty_unary", this::emptyUnary);
    passed &= passes("large_unary", () -> largeUnary(blocking()));
    passed &= passes("many_calls", this::manyCalls);
    passed &= passes("client_stream", this::clientStream);
    passed &= passes("server_stream", this::serverStream);
    passed &= passes("ping_pong", () -> pingPong(streaming()));
    passed &= passes("duplex", this::duplex);
    passed &= passes("empty_stream", this::emptyStream);
    passed &= passes("cancel_after_begin", this::cancelAfterBegin);
    passed &= passes("cancel_after_first_answer", this::cancelAfterFirstAnswer);
    passed &= passes("deadline", this::deadline);
    passed &= passes("status_codes", this::statusCodes);
    passed &= passes("status_text", this::statusText);
    passed &= passes("status_before_half_close", this::statusBeforeHalfClose);
    passed &= passes("status_details", this::statusDetails);
    passed &= passes("unknown_method", this::unknownMethod);
    passed &= passes("unknown_service", this::unknownService);
    passed &= passes("metadata", this::metadata);
    passed &= passes("gzip", this::gzip);
    passed &= passes("oversized_message", this::oversizedMessage);
    passed &= passes("oversized_metadata", this::oversizedMetadata);
    return passed;
  }

  public static void main(String[] arguments) throws Exception {
    NettyChannelBuilder builder = NettyChannelBuilder.forTarget(arguments[1]).disableRetry();
    if (arguments[0].equals("tls")) {
      builder.sslContext(
          GrpcSslContexts.forClient()
              .trustManager(new File(arguments[2]))
              .keyManager(new File(arguments[3]), new File(arguments[4]))
              .build());
    } else {
      builder.usePlaintext();
    }
    ManagedChannel channel = builder.build();
    boolean passed = new JavaClient(channel).runAll();
    channel.shutdownNow().awaitTermination(LIMIT_SECONDS, TimeUnit.SECONDS);
    System.exit(passed ? 0 : 1);
  }
}

#include "backend/cuda/cudnn_graph.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <cstring>

// The frontend asks the system's loader for cuDNN and for CUDA's runtime by these two names, which
// it looks for in its own namespace first: here they are. cuDNN is the one that was loaded, the
// runtime the one that this program is linked with.
namespace cudnn_frontend::detail {

static void* const linked_runtime = const_cast<char*>("libcudart");

// What the frontend may call of the runtime to build a graph and to execute it.
template <class Function>
static void* as_symbol(Function* function) {
  return reinterpret_cast<void*>(function);
}

static void* runtime_function(const char* name) {
  struct Symbol {
    const char* name;
    void* function;
  };
  static const Symbol symbols[] = {
      {"cudaDeviceGetAttribute", as_symbol(cudaDeviceGetAttribute)},
      {"cudaDeviceSynchronize", as_symbol(cudaDeviceSynchronize)},
      {"cudaGetDevice", as_symbol(cudaGetDevice)},
      {"cudaGetDriverEntryPointByVersion",
       as_symbol<cudaError_t(const char*, void**, unsigned, unsigned long long,
                             cudaDriverEntryPointQueryResult*)>(cudaGetDriverEntryPointByVersion)},
      {"cudaGetErrorString", as_symbol(cudaGetErrorString)},
      {"cudaGetLastError", as_symbol(cudaGetLastError)},
      {"cudaGraphRetainUserObject", as_symbol(cudaGraphRetainUserObject)},
      {"cudaMemcpyAsync", as_symbol(cudaMemcpyAsync)},
      {"cudaMemsetAsync", as_symbol(cudaMemsetAsync)},
      {"cudaPointerGetAttributes", as_symbol(cudaPointerGetAttributes)},
      {"cudaRuntimeGetVersion", as_symbol(cudaRuntimeGetVersion)},
      {"cudaStreamGetCaptureInfo",
       as_symbol<cudaError_t(cudaStream_t, cudaStreamCaptureStatus*, unsigned long long*,
                             cudaGraph_t*, const cudaGraphNode_t**, const cudaGraphEdgeData**,
                             std::size_t*)>(cudaStreamGetCaptureInfo)},
      {"cudaStreamIsCapturing", as_symbol(cudaStreamIsCapturing)},
      {"cudaStreamSynchronize", as_symbol(cudaStreamSynchronize)},
      {"cudaThreadExchangeStreamCaptureMode", as_symbol(cudaThreadExchangeStreamCaptureMode)},
      {"cudaUserObjectCreate", as_symbol(cudaUserObjectCreate)},
      {"cudaUserObjectRelease", as_symbol(cudaUserObjectRelease)},
  };
  for (const Symbol& one : symbols)
    if (std::strcmp(one.name, name) == 0) return one.function;
  return nullptr;  // it says which one it misses
}

static void* dlopen(const char* file, int mode) {
  if (std::strncmp(file, "libcudart.", 10) != 0) return ::dlopen(file, mode);
  return std::strcmp(file, "libcudart.so.13") == 0 ? linked_runtime : nullptr;
}

// Without a handle: of cuDNN, which from here on stays in memory, since the frontend keeps
// addresses for good.
static void* dlsym(void* handle, const char* name) {
  if (handle == linked_runtime) return runtime_function(name);
  if (handle != nullptr) return ::dlsym(handle, name);
  void* const loaded = ::dlopen("libcudnn.so.9", RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
  return loaded == nullptr ? nullptr : ::dlsym(loaded, name);
}

}  // namespace cudnn_frontend::detail

#include <cudnn_frontend.h>

#include "backend/cuda/runtime.h"

namespace cudnn_frontend {
void* cudnn_dlhandle = nullptr;  // which it wants to be there; see dlsym() above
}

namespace sluice {
namespace {

namespace fe = cudnn_frontend;
using Value = std::shared_ptr<fe::graph::Tensor_attributes>;

std::int64_t id_of(CudnnCall::Operand operand) { return operand + 1; }

// Extents as the library counts them: batch, heads, time, head.
std::vector<std::int64_t> extents(const CudnnCall& call) {
  return {call.batch, call.heads, call.time, call.head};
}
std::vector<std::int64_t> strides(const CudnnCall& call, CudnnCall::Operand operand) {
  return {call.sequence[operand], call.head, call.token[operand], 1};
}

class Maker {
 public:
  Maker(const CudnnCall& call, int capability) : call_(call) {
    graph_.set_io_data_type(fe::DataType_t::BFLOAT16)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT)
        .set_sm_version(capability)
        .set_cuda_graph_retention(fe::CudaGraphRetention_t::NONE);  // this object is kept instead
  }

  void forward() {
    const bool lse = call_.kind == CudnnKind::forward_lse;
    const auto how = fe::graph::SDPA_attributes()
                         .set_name("attention")
                         .set_generate_stats(lse)
                         .set_attn_scale(call_.scale)
                         .set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT)
                         .set_diagonal_band_right_bound(0);
    auto [y, statistics] =
        graph_.sdpa(input(CudnnCall::q), input(CudnnCall::k), input(CudnnCall::v), how);
    output(y, CudnnCall::y);
    if (!lse) return;
    statistics->set_output(true)
        .set_data_type(fe::DataType_t::FLOAT)
        .set_uid(id_of(CudnnCall::lse));
    statistics->set_dim(rows()).set_stride(row_strides());
  }

  void gradient() {
    const auto how = fe::graph::SDPA_backward_attributes()
                         .set_name("attention_grad")
                         .set_attn_scale(call_.scale)
                         .set_diagonal_alignment(fe::DiagonalAlignment_t::TOP_LEFT)
                         .set_diagonal_band_right_bound(0)
                         .set_deterministic_algorithm(call_.kind == CudnnKind::gradient);
    const Value lse = graph_.tensor(fe::graph::Tensor_attributes()
                                        .set_name("lse")
                                        .set_uid(id_of(CudnnCall::lse))
                                        .set_data_type(fe::DataType_t::FLOAT)
                                        .set_dim(rows())
                                        .set_stride(row_strides()));
    auto [dq, dk, dv] =
        graph_.sdpa_backward(input(CudnnCall::q), input(CudnnCall::k), input(CudnnCall::v),
                             input(CudnnCall::y), input(CudnnCall::dy), lse, how);
    output(dq, CudnnCall::dq), output(dk, CudnnCall::dk), output(dv, CudnnCall::dv);
  }

  fe::graph::Graph take() { return std::move(graph_); }

 private:
  Value input(CudnnCall::Operand operand) {
    return graph_.tensor(fe::graph::Tensor_attributes()
                             .set_name(std::to_string(id_of(operand)))
                             .set_uid(id_of(operand))
                             .set_dim(extents(call_))
                             .set_stride(strides(call_, operand)));
  }
  void output(const Value& value, CudnnCall::Operand operand) {
    value->set_output(true).set_uid(id_of(operand));
    value->set_dim(extents(call_)).set_stride(strides(call_, operand));
  }
  std::vector<std::int64_t> rows() const { return {call_.batch, call_.heads, call_.time, 1}; }
  std::vector<std::int64_t> row_strides() const {
    return {call_.heads * call_.time, call_.time, 1, 1};
  }

  const CudnnCall& call_;
  fe::graph::Graph graph_;
};

fe::error_t prepare(fe::graph::Graph& graph, cudnnHandle_t handle) {
  fe::error_t status = graph.validate();
  if (status.is_good()) status = graph.build_operation_graph(handle);
  if (status.is_good()) status = graph.create_execution_plans({fe::HeurMode_t::A});
  if (status.is_good()) status = graph.check_support();
  if (status.is_good()) status = graph.build_plans(fe::BuildPlanPolicy_t::HEURISTICS_CHOICE);
  return status;
}

void check_cudnn(cudnnStatus_t status, const char* doing) {
  require(status == CUDNN_STATUS_SUCCESS, [&] {
    return Error(Exit::internal, {fmt::format("cuDNN failed at {}", doing),
                                  {},
                                  {},
                                  fmt::format("status {}", static_cast<int>(status)),
                                  {}});
  });
}

}  // namespace

CudnnHandle::CudnnHandle() {
  check_cudnn(fe::detail::create_handle(&handle_), "its start");
  int device = 0, major = 0, minor = 0;
  check_cuda(cudaGetDevice(&device), "asking for the GPU");
  check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
             "asking for its kind");
  check_cuda(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device),
             "asking for its kind");
  capability_ = 10 * major + minor;
}

CudnnHandle::~CudnnHandle() {
  if (handle_ != nullptr) (void)fe::detail::destroy_handle(handle_);
}

void CudnnHandle::use(cudaStream_t stream) {
  check_cudnn(fe::detail::set_stream(handle_, stream), "choosing a stream");
}

struct CudnnGraph::Built {
  fe::graph::Graph graph;
  std::unordered_map<std::int64_t, void*> pointers;  // made once: running allocates nothing here
};

CudnnGraph::CudnnGraph(const CudnnHandle& handle, const CudnnCall& call) {
  const bool forward = call.kind == CudnnKind::forward || call.kind == CudnnKind::forward_lse;
  Maker maker(call, handle.capability());
  try {
    if (forward)
      maker.forward();
    else
      maker.gradient();
    built_ = std::make_unique<Built>(Built{maker.take(), {}});
    fe::error_t status = prepare(built_->graph, handle.get());
    if (status.is_good()) status = built_->graph.get_workspace_size(workspace_);
    if (status.is_bad()) refusal_ = status.get_message();
  } catch (const std::exception& e) {  // a function that this library lacks, say
    refusal_ = e.what();
  }
  const auto last = forward ? CudnnCall::lse : CudnnCall::dv;
  for (int operand = CudnnCall::q; operand <= last; ++operand) {
    if (operand == CudnnCall::lse && call.kind == CudnnKind::forward) continue;
    built_->pointers[id_of(static_cast<CudnnCall::Operand>(operand))] = nullptr;
  }
}

CudnnGraph::~CudnnGraph() = default;
CudnnGraph::CudnnGraph(CudnnGraph&&) noexcept = default;

void CudnnGraph::run(const CudnnHandle& handle, const CudnnPointers& pointers, void* workspace) {
  for (auto& [id, pointer] : built_->pointers) pointer = pointers[static_cast<std::size_t>(id - 1)];
  std::string said;
  try {
    fe::error_t status = built_->graph.execute(handle.get(), built_->pointers, workspace);
    if (status.is_good()) return;
    said = status.get_message();
  } catch (const std::exception& e) {
    said = e.what();
  }
  throw Error(Exit::internal, {"cuDNN failed at attention", {}, {}, said, {}});
}

}  // namespace sluice

/* The kernels of the table in backend.cu, by file.  Included by cuda.h. */
#ifndef WL_TRAIN_BACKEND_CUDA_KERNELS_H
#define WL_TRAIN_BACKEND_CUDA_KERNELS_H

#define CUDA_RUN(name)                                                                             \
	int name(struct cuda *c, const struct wl_op *op, const struct wl_run *run,                 \
		struct wl_err *err)
#define CUDA_SCRATCH(name) size_t name(const struct wl_op *op)

/* augment.cu: the making of pictures, train/backend/pictures.h */
extern "C" const struct wl_picture_ops *wl_cuda_pictures(void);

/* nvJPEG, loaded when it is asked for: nvjpeg.cu, or the tests' own.  decode: n <= batch whole
 * baseline JPEGs on the host, their planes to device memory, in order on the stream. */
struct cuda_jpeg {
	const unsigned char *bytes;
	size_t n;
	unsigned char *plane[3];
	size_t pitch[3];
	int planes;
};
struct cuda_jpegs;
extern "C" {
int wl_cuda_jpegs_open(struct cuda_jpegs **to, int64_t batch, struct wl_err *err);
void wl_cuda_jpegs_close(struct cuda_jpegs *j); /* accepts NULL */
int wl_cuda_jpegs_decode(struct cuda_jpegs *j, const struct cuda_jpeg *list, int64_t n,
	cudaStream_t stream, struct wl_err *err);
}

/* elementwise.cu */
CUDA_RUN(wl_cuda_add);
CUDA_RUN(wl_cuda_scale);
CUDA_RUN(wl_cuda_act);
CUDA_RUN(wl_cuda_act_bwd);
CUDA_RUN(wl_cuda_dropout);
CUDA_RUN(wl_cuda_fill);
CUDA_RUN(wl_cuda_copy);
CUDA_RUN(wl_cuda_slice);
CUDA_RUN(wl_cuda_slice_bwd);
CUDA_RUN(wl_cuda_concat);
CUDA_RUN(wl_cuda_dot);
CUDA_RUN(wl_cuda_dot_bwd);
/* optim.cu */
void wl_cuda_adamw(struct wl_backend *be, float *w, const float *grad, void *m, void *v,
	const struct wl_adamw_range *ranges, int n_ranges, const struct wl_adamw *how);
void wl_cuda_ema(struct wl_backend *be, float *k, const float *q, int64_t n, float momentum);
double wl_cuda_sum_squares(struct wl_backend *be, const float *x, int64_t n);
void wl_cuda_squares(struct wl_backend *be, const float *x, int64_t n, int64_t step, int64_t rows,
	double *to, bool add);
/* dense.cu */
int wl_cuda_dense_plan(struct cuda *c, struct wl_op *op, struct wl_err *err);
void wl_cuda_dense_release(struct cuda *c, struct wl_op *op);
CUDA_RUN(wl_cuda_linear);
CUDA_RUN(wl_cuda_linear_bwd);
CUDA_RUN(wl_cuda_conv);
CUDA_RUN(wl_cuda_conv_bwd);
/* depthwise.cu */
CUDA_SCRATCH(wl_cuda_depthwise_scratch);
CUDA_SCRATCH(wl_cuda_depthwise_bwd_scratch);
CUDA_RUN(wl_cuda_depthwise);
CUDA_RUN(wl_cuda_depthwise_bwd);
/* norm.cu */
CUDA_SCRATCH(wl_cuda_bn_scratch);
CUDA_RUN(wl_cuda_bn);
CUDA_RUN(wl_cuda_bn_bwd);
/* layer_norm.cu */
CUDA_SCRATCH(wl_cuda_ln_bwd_scratch);
CUDA_RUN(wl_cuda_ln);
CUDA_RUN(wl_cuda_ln_bwd);
CUDA_RUN(wl_cuda_l2norm);
CUDA_RUN(wl_cuda_l2norm_bwd);
/* attention.cu */
CUDA_SCRATCH(wl_cuda_attention_scratch);
CUDA_SCRATCH(wl_cuda_attention_bwd_scratch);
CUDA_RUN(wl_cuda_attention);
CUDA_RUN(wl_cuda_attention_bwd);
/* embed.cu */
CUDA_SCRATCH(wl_cuda_embed_bwd_scratch);
CUDA_RUN(wl_cuda_embed);
CUDA_RUN(wl_cuda_embed_bwd);
CUDA_RUN(wl_cuda_tokens);
CUDA_RUN(wl_cuda_tokens_bwd);
/* pool.cu */
CUDA_SCRATCH(wl_cuda_pool_scratch);
CUDA_SCRATCH(wl_cuda_roi_bwd_scratch);
CUDA_RUN(wl_cuda_mean_hw);
CUDA_RUN(wl_cuda_mean_hw_bwd);
CUDA_RUN(wl_cuda_channel_scale);
CUDA_RUN(wl_cuda_channel_scale_bwd);
CUDA_RUN(wl_cuda_roi);
CUDA_RUN(wl_cuda_roi_bwd);
CUDA_RUN(wl_cuda_masked_mean);
CUDA_RUN(wl_cuda_masked_mean_bwd);
/* infonce.cu */
CUDA_SCRATCH(wl_cuda_infonce_scratch);
CUDA_RUN(wl_cuda_infonce);
int wl_cuda_infonce_bwd_plan(struct cuda *c, struct wl_op *op, struct wl_err *err);
void wl_cuda_infonce_bwd_release(struct cuda *c, struct wl_op *op);
CUDA_RUN(wl_cuda_infonce_bwd);
/* near.cu */
CUDA_SCRATCH(wl_cuda_both_near_scratch);
CUDA_RUN(wl_cuda_both_near);

#endif

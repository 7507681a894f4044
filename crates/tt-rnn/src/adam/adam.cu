// Adam in one pass over `count` values that share a rate, by the rule of adam.rs: 16 bytes read and 12 written a value. The
// gradient is multiplied by `*scale`, unless that is null.
KERNEL_OF(adam, 256, 8)
(float* param, const float* grad, float* m, float* v, const float* scale, long long count, float rate, float keep1,
 float new1, float keep2, float new2, float epsilon, float decay, float shrink) {
    float factor = scale ? *scale : 1.0f;
    for (long long k = blockIdx.x * 256ll + threadIdx.x; k < count; k += gridDim.x * 256ll) {
        float p = param[k], g = fmaf(p, decay, grad[k] * factor);
        float first = fmaf(m[k], keep1, g * new1);
        float second = fmaf(v[k], keep2, g * g * new2);
        m[k] = first;
        v[k] = second;
        param[k] = fmaf(first / (sqrtf(second) + epsilon), -rate, fmaf(p, -shrink, p));
    }
}
EMULATED(adam)

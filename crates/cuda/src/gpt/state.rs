//! The engine's state on its way to a checkpoint and back.

use super::{CudaGpt, device};
use crate::driver::DriverError;
use crate::scaler::LossScaler;
use crate::sizes::{Buffer, Sizes};
use isoflop_base::tensor::TensorGroup;
use isoflop_base::{TensorError, TensorSink, TensorSource};
use isoflop_nn::engine::EngineError;
use isoflop_nn::gpt::moments::{Moment, MomentSizes, saved};

impl CudaGpt {
    pub(super) fn save_to(&self, sink: &mut dyn TensorSink) -> Result<(), EngineError> {
        let card = self.whole()?;
        let (layout, sizes) = (&self.sizes.layout, self.moment_sizes());
        sink.begin(&[layout.specs(), sizes.specs(layout)].concat())?;
        let weights = self.read(card, self.sizes.weights)?;
        for tensor in &layout.tensors {
            sink.write(&tensor.name, bytemuck::cast_slice(&weights[tensor.range()]))?;
        }
        drop(weights);
        for (index, moment) in Moment::pair(&sizes).iter_mut().enumerate() {
            self.download_moment(card, index, moment).map_err(|e| device(&e))?;
            moment.save(layout, &sizes, sink)?;
        }
        sink.counter("step", self.step)?;
        if let Some(scaler) = &self.scaler {
            scaler.save(sink)?;
        }
        Ok(())
    }

    pub(super) fn load_from(&mut self, source: &mut dyn TensorSource) -> Result<(), EngineError> {
        self.usable()?;
        let (layout, sizes) = (&self.sizes.layout, self.moment_sizes());
        let mut weights = vec![0f32; layout.len];
        for tensor in &layout.tensors {
            let out = &mut weights[tensor.range()];
            source.read_f32(TensorGroup::Model, &tensor.name, &tensor.shape, out)?;
        }
        let saved = saved(layout, source);
        let step = match saved {
            true => {
                source.counter("step").ok_or_else(|| TensorError::Missing("counter `step`".to_owned()))?
            }
            false => 0,
        };
        let mut moments = Moment::pair(&sizes);
        for moment in moments.iter_mut().filter(|_| saved) {
            moment.load(layout, &sizes, source)?;
        }
        self.upload_weights(&weights).map_err(|e| device(&e))?;
        for (index, moment) in moments.iter_mut().enumerate() {
            self.upload_moment(index, moment).map_err(|e| device(&e))?;
        }
        self.clear_all_gradients().map_err(|e| device(&e))?;
        self.begin_step();
        self.step = step;
        if self.scaler.is_some() {
            self.scaler = Some(if saved { LossScaler::load(source) } else { LossScaler::default() });
        }
        Ok(())
    }

    fn moment_sizes(&self) -> MomentSizes {
        MomentSizes::new(&self.sizes.layout, self.options.optimizer)
    }

    fn download_moment(&self, card: usize, index: usize, moment: &mut Moment) -> Result<(), DriverError> {
        let (replica, parts) = (&self.replicas.borrow()[card], moment.parts());
        let Sizes { moments, codes, scales, .. } = &*self.sizes;
        let read = |buffer: Buffer, to: &mut [u8]| replica.stream.download(replica.at(buffer), to);
        read(moments[index], bytemuck::cast_slice_mut(parts.wide))?;
        read(codes[index], parts.codes)?;
        read(scales[index], bytemuck::cast_slice_mut(parts.scales))
    }

    fn upload_moment(&self, index: usize, moment: &mut Moment) -> Result<(), DriverError> {
        let parts = moment.parts();
        let Sizes { moments, codes, scales, .. } = &*self.sizes;
        for replica in self.replicas.borrow().iter() {
            let write = |buffer: Buffer, from: &[u8]| replica.stream.upload(replica.at(buffer), from);
            write(moments[index], bytemuck::cast_slice(parts.wide))?;
            write(codes[index], parts.codes)?;
            write(scales[index], bytemuck::cast_slice(parts.scales))?;
        }
        Ok(())
    }
}
